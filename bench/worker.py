"""A worker process of the benchmark: it does what its parent asks it to."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from oban import Job, Oban, telemetry
from psycopg_pool import AsyncConnectionPool

from adk_oban import AdkOban, PostgresSessionService
from bench import bare
from bench.agents import AGENTS, APP, SEEN
from bench.profiling import Profiler
from bench.sends import Sends
from bench.soak import notes
from bench.soak.clerk import CLERK
from bench.stock import QUEUE, URL, Noop
from bench.usage import Usage, resident


@dataclass(frozen=True, slots=True)
class Spec:
    """What a worker process is.

    Attributes:
        dsn: Its database.
        kind: `"stock"` (a plain `oban.Oban`) or `"ours"` (`AdkOban`).
        slots: How many jobs it runs at once.
        number: Which one of several it is.
        paused: Whether it fetches only when it is told to start.
        counted: Whether it counts round trips.
        profiled: Whether it runs under a profiler between start and stop.
    """

    dsn: str
    kind: str
    slots: int = 50
    number: int = 0
    paused: bool = True
    counted: bool = False
    profiled: bool = False

    @property
    def node(self) -> str:
        """Its name in `attempted_by`."""
        return f"bench-{self.number}"

    @property
    def warm_queue(self) -> str:
        """The queue that only this one works on, and at once."""
        return f"warm_{self.number}"


@dataclass(slots=True)
class Heard:
    """What Oban's telemetry has told.

    Attributes:
        started: When each attempt started, with its job's id, in seconds.
        took: How long each attempt took, with its job's id and number, in seconds.
    """

    started: list[tuple[int, float]] = field(default_factory=list)
    took: list[tuple[int, int, float]] = field(default_factory=list)

    def listen(self) -> None:
        """Listen from now on."""
        telemetry.attach("bench-start", ["oban.job.start"], self._start)
        ends = ["oban.job.stop", "oban.job.exception"]
        telemetry.attach("bench-stop", ends, self._stop)

    def clear(self) -> None:
        """Forget the warm-up."""
        self.started.clear()
        self.took.clear()

    def _start(self, _name: str, told: dict[str, Any]) -> None:
        self.started.append((told["job"].id, time.time()))

    def _stop(self, _name: str, told: dict[str, Any]) -> None:
        job: Job = told["job"]
        self.took.append((job.id or 0, job.attempt, told["duration"] / 1e9))


class Worker:
    """Answers what it is asked."""

    def __init__(self, spec: Spec, pipe: Connection) -> None:
        self._spec = spec
        self._pipe = pipe
        self._sends = Sends()
        self._heard = Heard()
        self._profiler = Profiler() if spec.profiled else None
        self._before = Usage.now()
        self._oban: Oban | None = None

    async def serve(self) -> None:
        """Serve until the parent kills it."""
        if self._spec.counted:
            self._sends.install()
        self._heard.listen()
        async with AsyncExitStack() as stack:
            pool = AsyncConnectionPool(
                self._spec.dsn, min_size=1, max_size=10, open=False
            )
            started = await stack.enter_async_context(self._make(pool))
            stack.push_async_callback(pool.close)
            self._oban = started.oban if isinstance(started, AdkOban) else started
            self._pipe.send({"ready": True})
            while True:
                asked = await asyncio.to_thread(self._pipe.recv)
                self._pipe.send(await getattr(self, f"do_{asked.pop('do')}")(**asked))

    async def do_start(self) -> dict[str, Any]:
        """Begin to measure and to fetch."""
        self._heard.clear()
        self._before = self._usage()
        if self._profiler is not None:
            self._profiler.start()
        if self._oban is not None and self._spec.paused:
            await self._oban.resume_queue(QUEUE, node=self._spec.node)
        return asdict(self._before)

    async def do_stop(self) -> dict[str, Any]:
        """Tell what was used since the start."""
        profile = None if self._profiler is None else self._profiler.stop()
        after, before = asdict(self._usage()), asdict(self._before)
        used = {name: after[name] - before[name] for name in after}
        told = {"started": self._heard.started, "took": self._heard.took}
        return {**used, **told, "began": before["at"], "profile": profile}

    async def do_look(self) -> dict[str, Any]:
        """Tell of memory, of agents, and of what was sent so far."""
        return {
            **asdict(self._usage()),
            "rss": resident(),
            "waiting": SEEN.waiting,
            "tools": SEEN.tools,
            "took": self._heard.took,
        }

    async def do_count(self) -> dict[str, Any]:
        """Tell how many attempts have ended since the start."""
        return {"ended": len(self._heard.took)}

    async def do_bare(self, **asked: Any) -> dict[str, Any]:
        """Run the bare ADK."""
        return await bare.run(**asked)

    async def do_enqueue(self, count: int) -> dict[str, Any]:
        """Enqueue many jobs at once, and tell how many seconds it took."""
        assert self._oban is not None  # noqa: S101
        new: Any = Noop.new  # type: ignore[attr-defined]  # the decorator adds it
        jobs = [new({"number": number}) for number in range(count)]
        began = time.perf_counter()
        await self._oban.enqueue_many(jobs)
        return {"took": time.perf_counter() - began}

    def _usage(self) -> Usage:
        return Usage.now(self._sends.trips, self._sends.transactions)

    def _make(
        self, pool: AsyncConnectionPool
    ) -> AbstractAsyncContextManager[Oban | AdkOban]:
        spec = self._spec
        queues: dict[str, int | dict[str, Any]] = {
            QUEUE: {"limit": spec.slots, "paused": spec.paused},
            spec.warm_queue: min(50, spec.slots),
        }
        if spec.kind == "ours":
            return AdkOban(
                spec.dsn,
                queues=queues,
                agents=dict(AGENTS, clerk=CLERK),
                node=spec.node,
                backoff=lambda _job: 0,
            )
        return _Stock(pool, Oban(pool=pool, queues=queues, node=spec.node))


class _Stock(AbstractAsyncContextManager[Oban]):
    """A plain Oban and its pool."""

    def __init__(self, pool: AsyncConnectionPool, oban: Oban) -> None:
        self._pool = pool
        self._oban = oban

    async def __aenter__(self) -> Oban:
        await self._pool.open()
        started: Oban = await self._oban.start()
        return started

    async def __aexit__(self, *_: object) -> None:
        await self._oban.stop()


async def fill_session(dsn: str, user: str, session: str, events: int) -> None:
    """Write a session with so many events into a database, through our service."""
    async with AsyncConnectionPool(dsn, min_size=1, max_size=2, open=False) as pool:
        service = PostgresSessionService(pool)
        made = await service.create_session(
            app_name=APP, user_id=user, session_id=session
        )
        for number in range(events):
            await service.append_event(made, bare.turn_of(number))


def work(spec: Spec, pipe: Connection) -> None:
    """Be a worker process; what fails is in its job's row, and not printed."""
    logging.disable(logging.CRITICAL)
    os.environ[notes.DSN] = spec.dsn
    os.environ[URL] = spec.dsn.replace("postgresql:", "postgresql+psycopg:", 1)
    try:
        asyncio.run(Worker(spec, pipe).serve())
    except EOFError:  # the parent has gone
        return
