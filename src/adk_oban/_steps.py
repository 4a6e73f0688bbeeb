"""The table of steps: what agents have done in each job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from ._batch import Batch
from ._clock import real_now
from ._connection import autocommit, fetch
from ._query import statement
from .errors import SchemaVersionError

_SPARE = 4

VERSION = 1
"""How requests are fingerprinted and payloads written; another one is refused."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who may write for a job: the attempt that it was fetched for, and no other.

    Attributes:
        job_id: The job's id.
        attempted_at: When it was fetched, in UTC without saying so; no two are alike.
        attempt: Which attempt that is.
    """

    job_id: int
    attempted_at: datetime
    attempt: int


@dataclass(frozen=True, slots=True)
class Step:
    """One model call, tool call or function node of a job.

    Attributes:
        job_id: The job's id.
        segment: Which part of the invocation, between pauses; from 0.
        key: The digest of kind, agent, branch and request.
        ordinal: Which one of those with this key; from 0.
        kind: `"model"`, `"tool"` or `"node"`.
        name: The model's, tool's or node's.
        agent: The agent it belongs to.
        branch: ADK's branch, without the numbers of runs.
        state: `"done"`; or `"started"` or `"raised"`, of a tool that runs once.
        parts: Digests of the request's parts.
        payload: What it returned, as JSON; None before it has.
        usage: A model call's token counts, under genai's names.
        attempt: The attempt that recorded it.
        duration: How many seconds it took.
        began_at: When the invocation began.
        recorded_at: When it was recorded.
        version: The version of the format.
        id: Its number in the table; None before it is written.
    """

    job_id: int
    segment: int
    key: str
    ordinal: int
    kind: str
    name: str
    agent: str
    branch: str
    state: str
    parts: dict[str, str]
    payload: str | None
    usage: dict[str, int] | None
    attempt: int
    duration: float | None
    began_at: datetime
    recorded_at: datetime
    version: int = VERSION
    id: int | None = None

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """Return the step of a row that came as JSON.

        Raises:
            SchemaVersionError: It was written in a format that is not known here.
        """
        if row["version"] != VERSION:
            raise SchemaVersionError(
                f"job {row['job_id']} has steps of journal version {row['version']!r}, "
                f"and this adk-oban reads version {VERSION}: let a worker of the "
                "version that began the job finish it, or upgrade the workers here"
            )
        times = {
            name: datetime.fromisoformat(row[name])
            for name in ("began_at", "recorded_at")
        }
        known = {name: row[name] for name in cls.__slots__}
        return cls(**{**known, **times, "parts": json.loads(row["parts"])})


class Steps:
    """The journal's writer: one a process, whatever number of jobs run in it.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix
        self._batch = Batch[tuple[Owner, Step], bool](
            "journal", self._save, weigh=lambda each: len(each[1].payload or "")
        )
        # Transactional tools hold a connection each, and the rest must find some.
        self._room = asyncio.Semaphore(max(1, pool.max_size - _SPARE))

    async def record(self, owner: Owner, step: Step) -> bool:
        """Write a step, in place of one of the same key and ordinal.

        Returns:
            Whether the job is still the owner's; if not, nothing was written.
        """
        return await self._batch.submit((owner, step))

    async def save(
        self,
        steps: Sequence[tuple[Owner, Step]],
        *,
        conn: AsyncConnection[Any] | None = None,
    ) -> list[bool]:
        """Write many steps with one statement; say of each whether it was written.

        Args:
            steps: The steps and who writes them.
            conn: A connection of the caller's, to write in its transaction; the jobs'
                rows are then locked until it ends.
        """
        values = {
            "steps": json.dumps([_input(n, *each) for n, each in enumerate(steps)]),
        }
        # What must not begin twice holds the job's row while it is written.
        strict = conn is not None or any(s.state == "started" for _, s in steps)
        name = "record_step_in_transaction" if strict else "record_steps"
        sql = statement(name, self._prefix)
        if conn is not None:
            rows = await fetch(conn, sql, values)
        else:
            async with autocommit(self._pool) as own:
                rows = await fetch(own, sql, values)
        written = {n for (n,) in rows}
        return [n in written for n in range(len(steps))]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Give a connection with a transaction that ends with the block.

        Waits while as many tools have one as the pool can do without.
        """
        async with self._room, self._pool.connection() as conn, conn.transaction():
            yield conn

    async def _save(self, steps: Sequence[tuple[Owner, Step]]) -> list[bool]:
        return await self.save(steps)

    async def of_job(self, job_id: int) -> list[Step]:
        """Return a job's steps, in the order in which they were recorded."""
        sql = statement("list_steps", self._prefix)
        async with autocommit(self._pool) as conn:
            rows = await fetch(conn, sql, {"job_id": job_id})
        return [Step.of(row) for (row,) in rows]

    async def forget(
        self, owner: Owner, key: str, ordinal: int, *, segment: int = 0
    ) -> None:
        """Delete a step, so that it is done again."""
        step = {"segment": segment, "key": key, "ordinal": ordinal}
        values = {**asdict(owner), **step}
        async with self._pool.connection() as conn:
            await conn.execute(statement("forget_step", self._prefix), values)

    async def decide(self, job_id: int, step_id: int, *, payload: str | None) -> bool:
        """Say what became of a step whose outcome is unknown, and wake its job.

        Args:
            job_id: The job's id.
            step_id: The step's.
            payload: What it returned; None: it is run again.

        Returns:
            Whether there was such a step.
        """
        values = {
            "job_id": job_id,
            "id": step_id,
            "payload": payload,
            "recorded_at": real_now(),
            "channel": f"{self._prefix}.oban_insert",
        }
        async with autocommit(self._pool) as conn:
            ((found, _),) = await fetch(
                conn, statement("decide_step", self._prefix), values
            )
        return bool(found)

    async def prune(self, max_age: timedelta, *, limit: int = 10_000) -> int:
        """Delete steps of jobs that ended longer ago, at most `limit`; return how many.

        Those of a job that nobody told the end of count from when they were recorded.
        """
        values = {"max_age": max_age, "limit": limit}
        async with autocommit(self._pool) as conn:
            done = await conn.execute(statement("prune_steps", self._prefix), values)
        return done.rowcount


def _input(n: int, owner: Owner, step: Step) -> dict[str, Any]:
    return {
        "n": n,
        "job_id": owner.job_id,
        "attempted_at": owner.attempted_at.isoformat(),
        "segment": step.segment,
        "key": step.key,
        "ordinal": step.ordinal,
        "version": step.version,
        "kind": step.kind,
        "name": step.name,
        "agent": step.agent,
        "branch": step.branch,
        "state": step.state,
        "parts": json.dumps(step.parts),
        "payload": step.payload,
        "usage": step.usage,
        "attempt": step.attempt,
        "duration": step.duration,
        "began_at": step.began_at.isoformat(),
        "recorded_at": step.recorded_at.isoformat(),
    }
