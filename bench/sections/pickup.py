"""From the call of enqueue to the start of the attempt: idle, and at 50 a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

from oban import Job, Oban
from psycopg_pool import AsyncConnectionPool

from adk_oban import AdkOban
from bench.crew import crew
from bench.measure import MEMORY, OURS, Bench, Variant
from bench.stock import QUEUE
from bench.table import Row
from bench.worker import Spec


async def run(bench: Bench) -> list[Row]:
    """Compare ours with stock Oban, each with its own client in this process."""
    found = {variant: await _latencies(bench, variant) for variant in (MEMORY, OURS)}
    raw = {
        variant.name: {
            name: {"median_ms": median(taken), "p99_ms": _p99(taken)}
            for name, taken in latencies.items()
        }
        for variant, latencies in found.items()
    }
    bench.raw["pickup"] = raw
    stock, ours = raw[MEMORY.name], raw[OURS.name]
    return [
        Row.alone(
            "pick-up (enqueue to start), idle, median",
            f"{stock['idle']['median_ms']:.1f} ms",
            ours["idle"]["median_ms"],
            "ms",
            most=4,
        ),
        Row.alone(
            "pick-up at 50 jobs a second, p99",
            f"{stock['busy']['p99_ms']:.1f} ms",
            ours["busy"]["p99_ms"],
            "ms",
            most=20,
        ),
        Row.alone(
            "pick-up at 50 jobs a second, median",
            f"{stock['busy']['median_ms']:.1f} ms",
            ours["busy"]["median_ms"],
            "ms",
        ),
    ]


async def _latencies(bench: Bench, variant: Variant) -> dict[str, list[float]]:
    async with bench.server.database() as database:
        spec = Spec(database.dsn, variant.kind, paused=False)
        await database.insert(
            variant.job("one_turn"), 20, queue=spec.warm_queue, session="warm"
        )
        async with (
            crew(spec) as (member,),
            _client(variant, database.dsn) as oban,
        ):
            await database.drained(spec.warm_queue)
            await member.ask("start")
            idle = await _enqueue(oban, variant, bench.size(40), every=0.1)
            busy = await _enqueue(oban, variant, bench.size(300), every=0.02)
            await database.drained(QUEUE)
            started = dict((await member.ask("stop"))["started"])
    return {
        name: [1000 * (started[job] - at) for job, at in asked.items()]
        for name, asked in (("idle", idle), ("busy", busy))
    }


async def _enqueue(
    oban: Oban, variant: Variant, count: int, *, every: float
) -> dict[int, float]:
    """Enqueue at a steady pace; return when each was called for, by the job's id."""
    asked: dict[int, float] = {}

    async def enqueue(job: Job, at: float) -> None:
        inserted = await oban.enqueue(job)
        asked[inserted.id or 0] = at

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            names = {"user_id": "user", "session_id": f"at-{every}-{number}"}
            job = variant.job("one_turn", **names)
            job.queue = QUEUE
            await asyncio.sleep(max(0, began + number * every - time.monotonic()))
            group.create_task(enqueue(job, time.time()))
    return asked


@asynccontextmanager
async def _client(variant: Variant, dsn: str) -> AsyncIterator[Oban]:
    if variant.kind == "ours":
        async with AdkOban(dsn) as jobs:
            yield jobs.oban
        return
    async with AsyncConnectionPool(dsn, min_size=1, open=False) as pool:
        async with Oban(pool=pool) as oban:
            yield oban


def _p99(taken: list[float]) -> float:
    return sorted(taken)[int(len(taken) * 0.99)]
