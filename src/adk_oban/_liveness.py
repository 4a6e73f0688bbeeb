"""Says that this process lives: a lock in the database for each of its producers.

The lock belongs to a session, so the server frees it when the process ends, however it
ends. The session sends a beat each second, and the server ends it when it hears none
for a time: a process that is stopped or cut off loses its locks too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC

import psycopg
from oban import Job, Oban
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from . import _oban_producers as _producers
from ._loop_thread import LoopThread
from ._query import statement
from .errors import AdkObanError

logger = logging.getLogger(__name__)

_BEAT = 1.0  # seconds
_RETRY = 0.1  # seconds
_CONNECT_TIMEOUT = 5.0  # seconds
_LOST_TIMEOUT = 5.0  # seconds that jobs get to end which are no longer ours
_FAILURES = (OSError, TimeoutError, psycopg.Error)


class Liveness:
    """Holds the locks, on a connection of its own in a thread of its own.

    The thread has its own event loop, so that code which blocks the main one does not
    cost the locks.

    Args:
        oban: The Oban whose producers are locked.
        connect: Makes a direct connection to the database.
        prefix: The schema of the tables.
        lock_timeout: Seconds after which the server frees the locks of a process that
            says nothing (default 10; PostgreSQL 14 and later).
        goes_on: Whether the Oban runs on when this stops: what it runs then is judged
            by time again.
    """

    def __init__(
        self,
        oban: Oban,
        connect: Callable[[], Awaitable[AsyncConnection]],
        prefix: str,
        *,
        lock_timeout: float = 10.0,
        goes_on: bool = False,
    ) -> None:
        self._oban = oban
        self._connect = connect
        self._prefix = prefix
        self._lock_timeout = lock_timeout
        self._goes_on = goes_on
        self._accepting = True
        self._locked: frozenset[str] = frozenset()
        self._heard_until = 0.0
        self._taken_again_at: float | None = None
        self._session = 0
        self._guard = threading.Lock()  # of the locks and the session they belong to
        self._resuming: asyncio.Task[None] | None = None
        self._thread: LoopThread | None = None

    async def start(self) -> None:
        """Take the locks, and keep them.

        Raises:
            OSError: There is no connection; likewise `psycopg.Error`, `TimeoutError`.
        """
        self._accepting = True
        self._thread = LoopThread("adk-oban-liveness", self._hold)
        try:
            await self._thread.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Give the locks back; safe before `start`, and twice."""
        self._accepting = False
        self._locked = frozenset()
        thread, self._thread = self._thread, None
        if thread is not None:
            await thread.stop(self._lock_timeout)
        resuming, self._resuming = self._resuming, None
        if resuming is not None:
            await asyncio.wait({resuming})

    def close(self) -> None:
        """Let no more jobs be fetched; the locks stay."""
        self._accepting = False

    def allows(self, uuid: str) -> bool:
        """Return whether a producer may fetch jobs: as long as its lock is held."""
        return self._accepting and self.held and uuid in self._locked

    @property
    def held(self) -> bool:
        """Whether all locks are held, as far as one can know."""
        # By the clock as well: a process that was stopped does not know it yet.
        return bool(self._locked) and time.monotonic() < self._heard_until

    def held_for(self, seconds: float) -> bool:
        """Return whether no lock was lost in the last so many seconds."""
        again = self._taken_again_at
        return self.held and (again is None or time.monotonic() - again >= seconds)

    async def _hold(self, thread: LoopThread) -> None:
        retry = _RETRY
        while not thread.stopping:
            try:
                async with self._opened() as conn:
                    retry = _RETRY
                    await self._keep(conn, thread)
                    await self._within(conn, self._leave(conn))
            except Exception as error:
                if not thread.started:
                    raise
                self._tell_loss(error)
            with self._guard:
                self._session += 1
                self._locked = frozenset()
            await thread.pause(retry)
            retry = min(2 * retry, _BEAT)

    def _tell_loss(self, error: Exception) -> None:
        if self._locked:
            known = isinstance(error, (*_FAILURES, AdkObanError))
            text = "this node's locks are lost, and it fetches no jobs meanwhile: %s"
            logger.warning(text, error, exc_info=not known)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[AsyncConnection]:
        conn = await asyncio.wait_for(self._connect(), _CONNECT_TIMEOUT)
        try:
            if conn.info.server_version >= 140_000:
                timeout = f"{round(self._lock_timeout * 1000)}ms"
                sql = "SELECT set_config('idle_session_timeout', %s, false)"
                await self._within(conn, conn.execute(sql, (timeout,)))
            yield conn
        finally:
            await conn.close()

    async def _keep(self, conn: AsyncConnection, thread: LoopThread) -> None:
        locked: frozenset[str] = frozenset()
        fresh = True
        while not thread.stopping:
            sent = time.monotonic()
            missing = set(_producers.uuids_of(self._oban)) - locked
            if missing:
                locked |= await self._within(conn, self._lock(conn, missing))
            else:
                await self._within(conn, conn.execute("SELECT 1"))
            self._heard_until = sent + self._lock_timeout
            if missing and missing <= locked:
                lost = await self._lost(conn) if fresh and thread.started else set()
                thread.tell(self._resume, locked, lost, self._session)
                fresh = False
            beat = min(_BEAT, self._lock_timeout / 4)
            # Nobody speaks on it between the beats, unless the server ends it.
            wait = beat if missing <= locked else _RETRY
            await thread.pause(wait, reading=conn.fileno())

    async def _lock(self, conn: AsyncConnection, uuids: set[str]) -> frozenset[str]:
        values = {"uuids": [*uuids], "node": _producers.node_of(self._oban)}
        rows = await conn.execute(statement("lock_producers", self._prefix), values)
        return frozenset(uuid for (uuid,) in await rows.fetchall())

    async def _lost(self, conn: AsyncConnection) -> set[int]:
        """Return which of the running jobs others have been given meanwhile."""
        running = _producers.running(self._oban).values()
        jobs = {job.id: job for job in running if job.id is not None}
        asked = [{"id": i, "attempted_at": _naive(job)} for i, job in jobs.items()]
        sql = statement("find_own_jobs", self._prefix)
        rows = await self._within(conn, conn.execute(sql, {"jobs": Jsonb(asked)}))
        return set(jobs) - {job_id for (job_id,) in await rows.fetchall()}

    async def _leave(self, conn: AsyncConnection) -> None:
        uuids = _producers.uuids_of(self._oban)
        values = {"uuids": uuids, "with_jobs": self._goes_on}
        await conn.execute(statement("delete_producers", self._prefix), values)

    def _resume(self, locked: frozenset[str], lost: set[int], session: int) -> None:
        """Fetch jobs (again), once those that are lost have ended; in the main loop."""
        if not lost:
            self._publish(locked, session)
            return
        logger.warning("jobs %s run elsewhere by now: cancelled here", sorted(lost))
        self._resuming = asyncio.create_task(
            self._resume_after(locked, lost, session), name="adk-oban-liveness"
        )

    async def _resume_after(
        self, locked: frozenset[str], lost: set[int], session: int
    ) -> None:
        running = _producers.running(self._oban).items()
        tasks = {task for task, job in running if job.id in lost}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LOST_TIMEOUT)
        self._publish(locked, session)

    def _publish(self, locked: frozenset[str], session: int) -> None:
        with self._guard:
            if session != self._session:  # lost again meanwhile
                return
            again, self._locked = not self._locked, locked
        if session and again:
            self._taken_again_at = time.monotonic()
            logger.info("this node's locks are held again")
        _producers.wake(self._oban)

    async def _within[T](self, conn: AsyncConnection, work: Awaitable[T]) -> T:
        """Await a statement, and cut the connection when the server does not answer."""
        task = asyncio.ensure_future(work)
        _done, late = await asyncio.wait({task}, timeout=self._lock_timeout / 2)
        if late:
            # Cancelling it would ask the server, which does not answer.
            with suppress(OSError, psycopg.Error):
                with socket.socket(fileno=os.dup(conn.fileno())) as cut:
                    cut.shutdown(socket.SHUT_RDWR)
        return await task


def _naive(job: Job) -> str:
    assert job.attempted_at is not None  # noqa: S101  (it is running)
    return job.attempted_at.astimezone(UTC).replace(tzinfo=None).isoformat()
