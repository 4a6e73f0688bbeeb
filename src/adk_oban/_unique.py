"""A key under which a job is enqueued once: for a while, or while the job is there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from oban import Job
from psycopg import AsyncConnection

from ._args import check_json, show
from ._connection import fetch_one
from ._oban import job_row
from ._query import statement

MAX_KEY_LENGTH = 200

type UniqueKey = str | tuple[str, float | timedelta]
"""A key; or a key and for how long it stands, in seconds or as a `timedelta`."""


@dataclass(frozen=True, slots=True)
class Unique:
    """A key, and for how long the job that is enqueued under it stands for others.

    Attributes:
        key: The caller's own; all agents and sessions of a schema share them.
        period: How long; None: for as long as the job has not been pruned.
    """

    key: str
    period: timedelta | None = None

    @classmethod
    def of(cls, given: UniqueKey) -> Self:
        """Check what a caller gave.

        Raises:
            TypeError: It is neither a key nor a key and a period.
            ValueError: The key is blank or too long, or the period is not positive.
        """
        match given:
            case str():
                return cls(_key(given))
            case (key, period):
                return cls(_key(key), _period(period))
        raise TypeError(
            "unique must be a key, or a key and a period such as ('daily', 3600), got "
            f"{show(given)}"
        )

    async def holder(self, conn: AsyncConnection[Any], prefix: str) -> Job | None:
        """Return the job that was enqueued under the key and stands, or None."""
        sql = statement("get_unique_job", prefix)
        return await fetch_one(conn, sql, {"key": self.key}, job_row)

    async def claim(self, conn: AsyncConnection[Any], prefix: str) -> Job | None:
        """Take the key until the transaction ends; return the job that stands, if any.

        Another transaction that has taken it is waited for.
        """
        await conn.execute(statement("claim_unique", prefix), {"key": self.key})
        # A statement of its own, which sees what the other one has committed.
        return await self.holder(conn, prefix)

    async def release(self, conn: AsyncConnection[Any], prefix: str) -> None:
        """Let go of the key, under which nothing is enqueued after all."""
        await conn.execute(statement("forget_unique", prefix), {"key": self.key})

    async def give(self, conn: AsyncConnection[Any], prefix: str, job: Job) -> None:
        """Let a job stand for all others under the key, which was claimed."""
        values = {"key": self.key, "job_id": job.id, "period": self.period}
        await conn.execute(statement("give_unique", prefix), values)


def _key(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"unique must have a string as key, got {show(value)}")
    if not value.strip() or len(value) > MAX_KEY_LENGTH:
        raise ValueError(
            f"unique must have a key of 1 to {MAX_KEY_LENGTH} characters, got "
            f"{len(value)}: {show(value)}"
        )
    return check_json("unique", value)


def _period(value: object) -> timedelta:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(
            "unique must have seconds or a timedelta as period, got "
            f"{show(value)}; leave it out for as long as the job is there"
        )
    if not math.isfinite(value) or not 0 < value <= _MOST:
        raise ValueError(
            f"unique must have a period of more than 0 seconds, and of {_MOST} at "
            f"most, got {value!r}; leave it out for as long as the job is there"
        )
    return timedelta(seconds=value)


_MOST = 100 * 365 * 86_400
