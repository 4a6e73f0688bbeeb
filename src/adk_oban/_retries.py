"""Lets jobs go on that ended without an answer, or wait for their next attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from ._connection import autocommit, fetch
from ._oban_queries import unwrap
from ._query import statement


class Retries:
    """Retries jobs.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix

    async def retry(
        self, ids: Sequence[int], *, conn: AsyncConnection | Any = None
    ) -> list[int]:
        """Let jobs go on at once from what they recorded.

        One that ended while it waited for people waits for them again.

        Args:
            ids: Which ones; those that are neither cancelled, discarded nor retryable
                are passed over.
            conn: A connection of the caller's, to do it in its transaction.

        Returns:
            The ids of those that go on.
        """
        values = {"ids": [*ids], "channel": f"{self._prefix}.oban_insert"}
        sql = statement("retry_jobs", self._prefix)
        if conn is not None:
            rows = await fetch(await unwrap(conn), sql, values)
        else:
            async with autocommit(self._pool) as own:
                rows = await fetch(own, sql, values)
        return [job_id for (job_id,) in rows]
