"""What jobs leave behind that nobody asks for any more: deleted in time."""

from __future__ import annotations

from datetime import timedelta

from psycopg_pool import AsyncConnectionPool

from ._connection import autocommit
from ._query import statement


class Leftovers:
    """Events, approvals and unique keys of jobs that ended long ago.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix

    async def prune(
        self, result_ttl: timedelta, step_ttl: timedelta, *, limit: int = 10_000
    ) -> list[int]:
        """Delete events as steps are, and the rest as results are, some at a time.

        Returns:
            How many of each: events, approvals, unique keys.
        """
        ages = {
            "prune_events": step_ttl,
            "prune_approvals": result_ttl,
            "prune_uniques": timedelta(0),
        }
        counts = []
        async with autocommit(self._pool) as conn:
            for name, max_age in ages.items():
                values = {"max_age": max_age, "limit": limit}
                done = await conn.execute(statement(name, self._prefix), values)
                counts.append(done.rowcount)
        return counts
