"""Statements on pooled connections, whatever the caller's pool is set to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import AsyncRowFactory, tuple_row
from psycopg_pool import AsyncConnectionPool


@asynccontextmanager
async def autocommit(pool: AsyncConnectionPool) -> AsyncIterator[AsyncConnection[Any]]:
    """Give a connection on which each statement is a transaction of its own."""
    async with pool.connection() as conn:
        before = conn.autocommit
        # Without a round trip; BEGIN and COMMIT would be two more for each.
        await conn.set_autocommit(True)
        try:
            yield conn
        finally:
            if conn.info.transaction_status == TransactionStatus.IDLE:
                await conn.set_autocommit(before)
            else:  # cancelled in the middle
                await conn.close()


async def fetch(
    conn: AsyncConnection[Any], sql: LiteralString, values: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """Return a statement's rows as tuples, whatever rows the connection makes."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(sql, values)
        return await cursor.fetchall() if cursor.description else []


async def fetch_one[Row](
    conn: AsyncConnection[Any],
    sql: LiteralString,
    values: dict[str, Any],
    row: AsyncRowFactory[Row],
) -> Row | None:
    """Return a statement's first row as `row` makes it, or None."""
    async with conn.cursor(row_factory=row) as cursor:
        await cursor.execute(sql, values)
        return await cursor.fetchone()
