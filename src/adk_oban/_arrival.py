"""A message arrives: what its key stands for, and what its session is busy with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from oban import Job
from psycopg import AsyncConnection, AsyncCursor
from psycopg.pq import TransactionStatus

from ._clock import real_now
from ._connection import fetch
from ._merge import merge
from ._oban_queries import unwrap
from ._order import NET, WAITS
from ._query import statement
from ._services import Services
from ._unique import Unique, UniqueKey
from .errors import SessionBusyError


@dataclass(frozen=True, slots=True)
class Ahead:
    """A job that a message would wait for which comes now.

    Attributes:
        id: Its id.
        runs: Whether it is executing, if only to see that it must wait.
        attempted_at: When its last attempt began.
        has_begun: Whether it is known to have done something.
    """

    id: int
    runs: bool
    attempted_at: datetime | None
    has_begun: bool


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job that is about to be enqueued.

    Attributes:
        job: The job.
        when_busy: What becomes of it when its session is busy.
        unique: The key under which it is enqueued once.
    """

    job: Job
    when_busy: str = "enqueue"
    unique: Unique | None = None

    @classmethod
    def of(cls, job: Job, unique: UniqueKey | None = None) -> Self:
        """Return the arrival of a job, whose args say what becomes of it when busy.

        Raises:
            TypeError: `unique` is neither a key nor a key and a period.
            ValueError: `unique` is out of range, or what the args say does not go
                together.
        """
        when_busy = job.args.get("when_busy") or "enqueue"
        if when_busy != "enqueue" and job.args.get("ordering") == "none":
            raise ValueError(
                f"when_busy={when_busy!r} is for jobs that run in the order of their "
                "session, and ordering='none' is not"
            )
        if when_busy != "enqueue" and job.scheduled_at is not None:
            raise ValueError(
                f"when_busy={when_busy!r} is about what runs now, and the job is "
                f"planned for later: {job.scheduled_at}"
            )
        return cls(job, when_busy, None if unique is None else Unique.of(unique))

    async def enter(self, services: Services, *, conn: Any = None) -> Job:
        """Enqueue the job, or return the one that is there in its place.

        Args:
            services: Where.
            conn: A connection of the caller's, to do it in its transaction.

        Raises:
            SessionBusyError: Its session is busy, and it does not wait.
        """
        if self.when_busy == "enqueue" and self.unique is None:
            return await services.oban.enqueue(self.job, conn=conn)
        async with _transaction(services, conn) as within:
            if self.unique is None:
                job = await self._enter(within)
            else:
                job = await self._enter_once(self.unique, within)
        if job is self.job and job.meta.get(WAITS):
            # What it waits for may have ended meanwhile.
            await services.order.settle([job.id or 0])
        return job

    async def _enter_once(self, unique: Unique, within: Within) -> Job:
        place = within.conn, within.prefix
        # Without a lock first, lest those who come again wait for each other.
        there = await unique.holder(*place) or await unique.claim(*place)
        if there is not None:
            return there
        try:
            job = await self._enter(within)
        except SessionBusyError:
            await unique.release(*place)
            raise
        await unique.give(*place, job)
        return job

    async def _enter(self, within: Within) -> Job:
        if self.when_busy == "enqueue":
            return await within.enqueue(self.job)
        ahead = await self._look(within)
        if ahead and self.when_busy == "reject":
            ids = tuple(each.id for each in ahead)
            raise SessionBusyError(self.job.args["session_id"], ids)
        if ahead and self.when_busy == "merge":
            # Into the last one only, so that messages stay in their order.
            into = ahead[-1].id
            merged = await merge(self.job, into, conn=within.conn, prefix=within.prefix)
            if merged is not None:
                return merged
            if within.own:
                self._wait()
        job = await within.enqueue(self.job)
        if self.when_busy in ("interrupt", "rollback"):
            await self._stop(under_way(ahead), job, within)
        return job

    def _wait(self) -> None:
        """Let the job wait for its turn from the start, and so take more messages.

        A worker that looks whether it is due would keep others out for that moment.
        """
        self.job.meta = {**self.job.meta, WAITS: "order"}
        self.job.scheduled_at = real_now() + timedelta(seconds=NET)

    async def _look(self, within: Within) -> list[Ahead]:
        args = self.job.args
        session = {"user_id": args["user_id"], "session_id": args["session_id"]}
        await within.conn.execute(statement("lock_session", within.prefix), session)
        values = {**session, "app_name": args.get("app_name")}
        sql = statement("list_jobs_ahead", within.prefix)
        return [Ahead(*row) for row in await fetch(within.conn, sql, values)]

    async def _stop(self, running: Ahead | None, job: Job, within: Within) -> None:
        if running is None:
            return
        keep = self.when_busy == "interrupt"
        how = "interrupted" if keep else "rolled back"
        stopped = await within.services.cancels.cancel(
            [running.id], reason=f"{how} by job {job.id}", keep=keep, conn=within.conn
        )
        if stopped and not keep:
            # What it had committed before it paused.
            sql = statement("take_back_turn", within.prefix)
            await within.conn.execute(sql, {"job_id": running.id})


@dataclass(frozen=True, slots=True)
class Within:
    """The transaction in which a job arrives.

    Attributes:
        services: Where.
        conn: Its connection.
        own: Whether it ends with the arrival; if not, the caller ends it.
    """

    services: Services
    conn: AsyncConnection[Any]
    own: bool

    @property
    def prefix(self) -> str:
        """The schema of the tables."""
        return self.services.prefix

    async def enqueue(self, job: Job) -> Job:
        """Insert a job."""
        return await self.services.oban.enqueue(job, conn=self.conn)


def under_way(ahead: Sequence[Ahead]) -> Ahead | None:
    """Return the job whose turn it is, of those that have not ended; None: of nobody.

    Several may be executing: those that only see that they must wait do so for some
    milliseconds. One that was planned comes due behind the one that runs already.
    """
    begun = [each for each in ahead if each.has_begun or each.runs]
    if not begun or begun[0].has_begun:
        return begun[0] if begun else None
    running = [each for each in begun if each.runs]
    proven = [each for each in running if each.has_begun]
    if proven:
        return proven[0]
    return min(running, key=lambda each: (each.attempted_at or datetime.max, each.id))


@asynccontextmanager
async def _transaction(services: Services, conn: Any) -> AsyncIterator[Within]:
    """Give a transaction of our own, or the caller's."""
    if conn is None:
        async with services.pool.connection() as ours, ours.transaction():
            yield Within(services, ours, own=True)
        return
    given = await unwrap(conn)
    theirs = given.connection if isinstance(given, AsyncCursor) else given
    idle = theirs.info.transaction_status == TransactionStatus.IDLE
    if theirs.autocommit and idle:
        async with theirs.transaction():
            yield Within(services, theirs, own=False)
        return
    yield Within(services, theirs, own=False)
