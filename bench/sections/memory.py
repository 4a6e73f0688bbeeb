"""Memory of a process with many invocations in flight, each in a tool that waits."""

from __future__ import annotations

import asyncio
import time

from bench.crew import crew
from bench.measure import MEMORY, OURS, Bench, Variant
from bench.stock import QUEUE
from bench.table import Row
from bench.worker import Spec

_SECONDS = 60
_GOALS = {1000: 256.0, 2000: 350.0}


async def run(bench: Bench) -> list[Row]:
    """Compare ours with stock Oban and in-memory sessions."""
    rows, raw = [], {}
    for full, goal in _GOALS.items():
        count = bench.size(full)
        stock = await _resident(bench, MEMORY, count)
        ours = await _resident(bench, OURS, count)
        raw[str(count)] = {MEMORY.name: stock, OURS.name: ours}
        reference = f"{stock:.0f} MB, nothing durable"
        what = f"{count:,} invocations in flight in one process"
        rows.append(Row.alone(what, reference, ours, "MB", most=goal))
    bench.raw["memory"] = raw
    return rows


async def _resident(bench: Bench, variant: Variant, count: int) -> float:
    async with bench.server.database() as database:
        spec = Spec(database.dsn, variant.kind, count, paused=False)
        await database.insert(variant.job("waiting"), count, queue=QUEUE)
        async with crew(spec) as (member,):
            deadline = time.monotonic() + _SECONDS
            while (told := await member.ask("look"))["waiting"] < count:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{told['waiting']} of {count} are in flight")
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)
            resident: float = (await member.ask("look"))["rss"]
            return resident
