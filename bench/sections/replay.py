"""A job of 200 steps fails at its end: how long does its second attempt take?"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.agents import REPLAYED_TOOLS
from bench.crew import Member, crew
from bench.measure import OURS, Bench
from bench.stock import QUEUE
from bench.table import Row
from bench.worker import Spec

_SECONDS = 60


async def run(bench: Bench) -> list[Row]:
    """Replay 100 model calls and 100 tool calls; no tool may run again."""
    async with bench.server.database() as database:
        spec = Spec(database.dsn, OURS.kind, paused=False)
        await database.insert(
            OURS.job("one_turn"), 20, queue=spec.warm_queue, session="warm"
        )
        async with crew(spec) as (member,):
            await database.drained(spec.warm_queue)
            await database.insert(OURS.job("replayed"), 1, queue=QUEUE)
            job = await database.one("SELECT id FROM oban_jobs WHERE queue = %s", QUEUE)
            told = await _second_attempt(member, job)
    bare = await bench.bare("many_tools", 1 if bench.quick else 3, warm=1)
    took = {attempt: took for id, attempt, took in told["took"] if id == job}
    replayed = told["tools"] == REPLAYED_TOOLS
    bench.raw["replay"] = {
        "bare": bare,
        "first_attempt_s": took[1],
        "second_attempt_s": took[2],
        "tools_run": told["tools"],
    }
    return [
        Row.alone(
            f"replay of {2 * REPLAYED_TOOLS} recorded steps",
            f"{bare['run_ms'] / 1000:.2f} s (the bare in-memory run, live)",
            took[2] if replayed else None,
            "s",
            most=0.5,
        ),
        Row.alone("- their live attempt, which records them", "", took[1], "s"),
    ]


async def _second_attempt(member: Member, job: int) -> dict[str, Any]:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        told = await member.ask("look")
        if any(id == job and attempt == 2 for id, attempt, _ in told["took"]):
            return told
        await asyncio.sleep(0.1)
    raise TimeoutError(f"the second attempt did not end within {_SECONDS} s")
