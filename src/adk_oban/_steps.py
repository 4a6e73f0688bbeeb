"""The table of steps: what agents have done in each job."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from ._batch import Batch, passes
from ._clock import real_now
from ._connection import autocommit, fetch
from ._query import statement
from ._shown import Shown, ShownEvent
from ._watch import EVENTS
from .errors import SchemaVersionError

_SPARE = 4

logger = logging.getLogger(__name__)

VERSION = 1
"""How requests are fingerprinted and payloads written; another one is refused."""

_READ = (VERSION, 2)  # 2: the same, of a job that has paused


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
        if row["version"] not in _READ:
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
        self._batch = Batch[tuple[Owner, Step] | None, bool](
            "journal", self._save, weigh=_weight
        )
        # What its jobs show goes along with the steps, or alone.
        self.shown = Shown(lambda: self._batch.submit(None))
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
        if conn is None and not _is_strict(steps):
            return (await self._record(steps, []))[0]
        values = {
            "steps": json.dumps([_input(n, *each) for n, each in enumerate(steps)]),
        }
        sql = statement("record_step_in_transaction", self._prefix)
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

    async def _save(self, items: Sequence[tuple[Owner, Step] | None]) -> list[bool]:
        steps = [item for item in items if item is not None]
        if steps and _is_strict(steps):
            # It keeps other statements from its jobs' rows, so it takes nothing along.
            written = await self.save(steps)
            if len(steps) < len(items):
                await self._save_with_events([])
        else:
            written = await self._save_with_events(steps)
        done = iter(written)
        return [item is None or next(done) for item in items]

    async def _save_with_events(
        self, steps: Sequence[tuple[Owner, Step]]
    ) -> list[bool]:
        events = self.shown.take()
        try:
            written, left = await self._record(steps, events)
        except Exception as error:
            if passes(error) or not events:
                self.shown.settle(events)
                raise
            # A step must not suffer for an event that cannot be written.
            try:
                written, left = await self._record(steps, [])
            except Exception:
                self.shown.settle(events)
                raise error from None
            logger.exception("%d events are lost", len(events))
        except BaseException:
            self.shown.settle(events)
            raise
        self.shown.settle(left)
        return written

    async def _record(
        self, steps: Sequence[tuple[Owner, Step]], events: Sequence[ShownEvent]
    ) -> tuple[list[bool], list[ShownEvent]]:
        """Write both; return which steps were written, and which events must wait."""
        values = {
            "steps": json.dumps([_input(n, *each) for n, each in enumerate(steps)]),
            "events": json.dumps([e.fenced_row(n) for n, e in enumerate(events)]),
            "channel": f"{self._prefix}.oban_{EVENTS}",
        }
        sql = statement("record_steps", self._prefix)
        async with autocommit(self._pool) as conn:
            rows = await fetch(conn, sql, values)
        written = {step for step, _ in rows}
        left = [events[event] for _, event in rows if event is not None]
        return [n in written for n in range(len(steps))], left

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

    async def decide(
        self,
        job_id: int,
        step_id: int,
        *,
        payload: str | None,
        conn: AsyncConnection[Any] | None = None,
    ) -> bool:
        """Say what became of a step whose outcome is unknown, and wake its job.

        Args:
            job_id: The job's id.
            step_id: The step's.
            payload: What it returned; None: it is run again.
            conn: A connection of the caller's, to do it in its transaction.

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
        sql = statement("decide_step", self._prefix)
        if conn is not None:
            ((found, _),) = await fetch(conn, sql, values)
            return bool(found)
        async with autocommit(self._pool) as own:
            ((found, _),) = await fetch(own, sql, values)
        return bool(found)

    async def prune(self, max_age: timedelta, *, limit: int = 10_000) -> int:
        """Delete steps of jobs that ended longer ago, at most `limit`; return how many.

        Those of a job that nobody told the end of count from when they were recorded.
        """
        values = {"max_age": max_age, "limit": limit}
        async with autocommit(self._pool) as conn:
            done = await conn.execute(statement("prune_steps", self._prefix), values)
        return done.rowcount


def _weight(item: tuple[Owner, Step] | None) -> int:
    return 0 if item is None else len(item[1].payload or "")


def _is_strict(steps: Sequence[tuple[Owner, Step]]) -> bool:
    # What must not begin twice holds the job's row while it is written.
    return any(step.state == "started" for _, step in steps)


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
