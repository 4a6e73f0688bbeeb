"""Cancels jobs, whether they wait or run, and wherever they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.errors import DeadlockDetected, SerializationFailure
from psycopg_pool import AsyncConnectionPool

from ._codec import storable
from ._connection import autocommit, fetch
from ._oban_queries import unwrap
from ._order import Order
from ._query import statement

_TRIES = 3


@dataclass(frozen=True, slots=True)
class Wish:
    """How a job that runs is to be cancelled.

    Attributes:
        keep: Whether what it has done so far stays; None: as the job itself says.
        reason: Why; None: nobody said.
    """

    keep: bool | None = None
    reason: str | None = None


class Cancels:
    """Cancels jobs.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
        order: Lets those go whom a cancelled job held up.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str, order: Order) -> None:
        self._pool = pool
        self._prefix = prefix
        self._order = order

    async def cancel(
        self,
        ids: Sequence[int],
        *,
        reason: str | None = None,
        keep: bool | None = None,
        conn: AsyncConnection | Any = None,
    ) -> list[int]:
        """Cancel jobs: those that wait end at once, those that run are told to stop.

        Args:
            ids: Which ones; those that have ended are passed over.
            reason: Why, for people.
            keep: Whether what a running one has done so far stays in its session; None
                leaves it to the job's own `on_cancel`.
            conn: A connection of the caller's, to do it in its transaction.

        Returns:
            The ids of those that are cancelled, or are being cancelled.
        """
        values = {
            "ids": [*ids],
            "reason": None if reason is None else storable(reason),
            "keep": keep,
            "signal": f"{self._prefix}.oban_signal",
        }
        sql = statement("cancel_jobs", self._prefix)
        if conn is not None:
            theirs = await unwrap(conn)
            rows = await fetch(theirs, sql, values)
            await self._order.settle(_ended(rows), conn=theirs)
        else:
            rows = await self._alone(sql, values)
            await self._order.settle(_ended(rows))
        return [row[0] for row in rows]

    async def _alone(
        self, sql: LiteralString, values: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        for left in reversed(range(_TRIES)):
            try:
                async with autocommit(self._pool) as conn:
                    return await fetch(conn, sql, values)
            except (DeadlockDetected, SerializationFailure):
                # Somebody else's statement took the same rows in another order.
                if not left:
                    raise
        raise AssertionError("unreachable")

    async def wish(self, job_id: int, attempted_at: datetime) -> Wish:
        """Return how an attempt is to be cancelled, as far as somebody said."""
        values = {"job_id": job_id, "attempted_at": attempted_at}
        async with autocommit(self._pool) as conn:
            rows = await fetch(conn, statement("get_wish", self._prefix), values)
        return Wish(*rows[0]) if rows else Wish()


def _ended(rows: list[tuple[Any, ...]]) -> list[int]:
    return [job_id for job_id, runs in rows if not runs]
