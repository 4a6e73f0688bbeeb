"""Jobs of one session run one after another, in the order of their ids."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from ._connection import autocommit
from ._query import statement

logger = logging.getLogger(__name__)

WAITS = "adk_oban_waits"
"""In a job's meta: what it waits for: `"order"`, `"decision"` or `"worker"`."""

NET = 30
"""Seconds after which a job that waits for its turn looks again by itself."""


class Order:
    """Wakes the job whose turn it is.

    A job that must wait snoozes, and whoever ends the job before it makes it available.
    Either side looks after it has written, so that one of them sees the other's write,
    whichever comes first.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix

    async def settle(
        self, job_ids: Iterable[int], *, conn: AsyncConnection[Any] | None = None
    ) -> None:
        """Make available what waits behind jobs that have ended, or begun to wait.

        To be called when that is committed, or in the transaction that does it.

        Args:
            job_ids: Such jobs; those of no session are passed over.
            conn: The connection of that transaction.
        """
        values = {"ids": [*job_ids], "channel": f"{self._prefix}.oban_insert"}
        if not values["ids"]:
            return
        sql = statement("wake_waiting", self._prefix)
        if conn is not None:
            await conn.execute(sql, values)
            return
        try:
            async with autocommit(self._pool) as own:
                await own.execute(sql, values)
        except Exception:
            # What has ended has ended, and who waits behind it looks again by itself.
            logger.exception("jobs %s: nobody was woken", values["ids"])
