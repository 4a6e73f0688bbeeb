"""One measurement: jobs that wait, workers that start, and what they used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from oban import Job

from adk_oban import AgentWorker
from bench.agents import APP
from bench.crew import Member, crew
from bench.database import Database, Server
from bench.stock import QUEUE, DatabaseTurn, MemoryTurn, Noop
from bench.usage import cpu_of_server
from bench.worker import Spec

_SECONDS = 60  # that a measurement may take

type Prepare = Callable[[Database], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Variant:
    """How a job is run.

    Attributes:
        name: Its name in the raw figures.
        kind: `"stock"` or `"ours"`.
        worker: The worker of a plain Oban, None for our own.
        sessions: What it keeps sessions in, for the table.
    """

    name: str
    kind: str
    worker: Any = None
    sessions: str = ""

    def job(self, agent: str, **args: Any) -> Job:
        """Return a job of this variant; its user and session are filled in later."""
        full = {"agent_module": agent, "message": "Hello, what is it?", **args}
        if self.worker is not None:
            job: Job = self.worker.new(full)
            return job
        full = {"user_id": "user", "app_name": APP, **full}
        full.pop("exists", None)
        return AgentWorker.new(full)


MEMORY = Variant("stock, in memory", "stock", MemoryTurn, "in-memory sessions")
DATABASE = Variant("stock, database", "stock", DatabaseTurn, "DatabaseSessionService")
OURS = Variant("ours", "ours")
NOOP = Variant("stock, no-op", "stock", Noop)
OUR_NOOP = Variant("ours, no-op", "ours", Noop)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a measurement found.

    Attributes:
        rate: Jobs a second.
        cpu: Milliseconds of CPU a job, of the workers.
        server_cpu: The same of PostgreSQL; None where it cannot be read.
        trips: Round trips a job, where they are counted.
        transactions: Transactions a job, where they are counted.
        took: Milliseconds of each attempt, in the order in which they ended.
        profile: The first worker's profile.
    """

    rate: float
    cpu: float
    server_cpu: float | None
    trips: float
    transactions: float
    took: list[float]
    profile: dict[str, Any] | None

    def raw(self) -> dict[str, Any]:
        """Return the figures for the file."""
        return {
            "jobs_per_second": self.rate,
            "cpu_ms": self.cpu,
            "server_cpu_ms": self.server_cpu,
            "attempt_ms": median(self.took),
            **({"trips": self.trips} if self.trips else {}),
            **({"transactions": self.transactions} if self.transactions else {}),
        }


@dataclass(slots=True)
class Bench:
    """A run of the benchmark.

    Attributes:
        server: Its PostgreSQL.
        quick: Whether it is a smoke run.
        seed: What chance is drawn with.
        raw: All figures, by section.
    """

    server: Server
    quick: bool
    seed: int = 1
    raw: dict[str, Any] = field(default_factory=dict)

    def size(self, full: int) -> int:
        """Return how many, in this run."""
        return max(10, full // 20) if self.quick else full

    @property
    def rounds(self) -> int:
        """How often what is compared is measured, by turns."""
        return 1 if self.quick else 3

    async def measure(
        self,
        variant: Variant,
        job: Job,
        count: int,
        *,
        slots: int = 50,
        processes: int = 1,
        warm: int = 100,
        prepare: Prepare | None = None,
        idle: float = 0,
        **options: Any,
    ) -> Figures:
        """Run so many jobs in fresh processes, and tell what they used.

        Args:
            variant: How they are run.
            job: What they all are; each gets a session of its own.
            count: How many.
            slots: How many each process runs at once.
            processes: How many processes there are.
            warm: How many jobs warm each of them up.
            prepare: Fills the database before.
            idle: Seconds to watch the idle workers for afterwards, so that what they
                send all the time is not the jobs'.
            **options: More of the workers' `Spec`.
        """
        warm = min(warm, 20) if self.quick else warm
        async with self.server.database() as database:
            specs = [
                Spec(database.dsn, variant.kind, slots, number, **options)
                for number in range(processes)
            ]
            if prepare is not None:
                await prepare(database)
            warm_queues = [spec.warm_queue for spec in specs] if warm else []
            for queue in warm_queues:
                warming = _without_history(job)
                await database.insert(warming, warm, queue=queue, session=queue)
            await database.insert(job, count, queue=QUEUE)
            async with crew(*specs) as members:
                for queue in warm_queues:
                    await database.drained(queue)
                await database.settle()
                return await self._run(database, members, count, idle)

    async def bare(self, agent: str, count: int, **options: Any) -> dict[str, Any]:
        """Run the bare ADK in a fresh process."""
        async with (
            self.server.database() as database,
            crew(Spec(database.dsn, "stock")) as (member,),
        ):
            told = await member.ask("bare", agent=agent, count=count, **options)
        return {
            "runs_per_second": count / told["elapsed"],
            "cpu_ms": 1000 * told["cpu"] / count,
            "run_ms": 1000 * median(told["durations"]),
        }

    async def _run(
        self, database: Database, members: list[Member], count: int, idle: float
    ) -> Figures:
        before = cpu_of_server(self.server.postmaster)
        await _ask_all(members, "start")
        ended = await _ended(database, members, count)
        told = await _ask_all(members, "stop")
        after = cpu_of_server(self.server.postmaster)
        elapsed = ended - min(report["began"] for report in told)
        trips, transactions = await _always(members, idle)
        used = None if before is None or after is None else after - before
        return Figures(
            rate=count / elapsed,
            cpu=1000 * _sum(told, "cpu") / count,
            server_cpu=None if used is None else 1000 * used / count,
            trips=(_sum(told, "trips") - trips * elapsed) / count,
            transactions=(_sum(told, "transactions") - transactions * elapsed) / count,
            took=[1000 * took for report in told for _, _, took in report["took"]],
            profile=told[0]["profile"],
        )


def middle(figures: list[Figures], of: str) -> float:
    """Return the median of a figure over rounds."""
    found: float = median(getattr(one, of) for one in figures)
    return found


async def _ask_all(members: list[Member], what: str) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(member.ask(what) for member in members)))


async def _ended(database: Database, members: list[Member], count: int) -> float:
    """Wait until all jobs have ended, without a query as long as most have not."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        if _sum(await _ask_all(members, "count"), "ended") >= count:
            break
    return await database.drained(QUEUE)


async def _always(members: list[Member], seconds: float) -> tuple[float, float]:
    """Return round trips and transactions a second of workers that have no job."""
    if not seconds:
        return 0.0, 0.0
    before = await _ask_all(members, "look")
    await asyncio.sleep(seconds)
    after = await _ask_all(members, "look")
    trips = _sum(after, "trips") - _sum(before, "trips")
    transactions = _sum(after, "transactions") - _sum(before, "transactions")
    return trips / seconds, transactions / seconds


def _sum(told: list[dict[str, Any]], name: str) -> float:
    return float(sum(one[name] for one in told))


def _without_history(job: Job) -> Job:
    args = {name: value for name, value in job.args.items() if name != "exists"}
    return Job(job.worker, args=args, max_attempts=job.max_attempts)
