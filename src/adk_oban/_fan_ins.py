"""Batches of jobs after whose last one another job starts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from weakref import WeakValueDictionary

from psycopg_pool import AsyncConnectionPool

from ._connection import autocommit, fetch
from ._query import statement


class FanIns:
    """The table of batches.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, key: str) -> asyncio.Lock:
        """Return what jobs of a batch take in turns in this process.

        Its row lets one of them in at a time, and the others would each wait with one
        of the pool's connections.
        """
        return self._turns.setdefault(key, asyncio.Lock())

    async def prune(self, max_age: timedelta, *, limit: int = 10_000) -> int:
        """Forget batches that started their job `max_age` ago; return how many.

        Those that still wait for jobs are forgotten when nothing came for a year.
        """
        async with autocommit(self._pool) as conn:
            sql = statement("prune_fan_ins", self._prefix)
            return len(await fetch(conn, sql, {"max_age": max_age, "limit": limit}))
