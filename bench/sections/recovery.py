"""A worker is killed with SIGKILL: when does its job run again?"""

from __future__ import annotations

import asyncio
import time
from statistics import median

from bench.crew import Member
from bench.database import Database
from bench.measure import OURS, Bench
from bench.stock import QUEUE
from bench.table import Row
from bench.worker import Spec

_SECONDS = 10.0
_KILLS = 9

_EXECUTING = """
SELECT attempted_by[1] FROM oban_jobs
WHERE queue = %s AND attempt = 1 AND state = 'executing'
"""

_AGAIN = """
SELECT extract(epoch FROM attempted_at)::float8 FROM oban_jobs
WHERE queue = %s AND attempt = 2 AND state = 'executing'
"""


async def run(bench: Bench) -> list[Row]:
    """Kill the worker that has the job, again and again; another one is there."""
    took = await _recoveries(bench, 1 if bench.quick else _KILLS)
    bench.raw["recovery"] = took
    what = "a killed worker's job runs again after (median)"
    found = median(took) if took else None
    return [Row.alone(what, "300 s (Oban)", found, "s", most=2)]


async def _recoveries(bench: Bench, kills: int) -> list[float]:
    """Return the seconds of each kill; none when a job does not run again in time."""
    took: list[float] = []
    async with bench.server.database() as database:
        members: dict[str, Member] = {}
        try:
            for number in range(2):
                await _join(members, database, number)
            for number in range(kills):
                again = await _kill(database, members)
                if again is None:
                    return []
                took.append(again)
                await _join(members, database, number + 2)
        finally:
            for member in members.values():
                await member.kill()
    return took


async def _join(members: dict[str, Member], database: Database, number: int) -> None:
    spec = Spec(database.dsn, OURS.kind, 5, number, paused=False)
    members[spec.node] = member = Member(spec)
    await member.ready()


async def _kill(database: Database, members: dict[str, Member]) -> float | None:
    await database.conn.execute("UPDATE oban_jobs SET state = 'cancelled'")
    await database.insert(
        OURS.job("waiting"), 1, queue=QUEUE, session=f"kill-{time.monotonic_ns()}"
    )
    node = await _eventually(database, _EXECUTING)
    if node is None:
        raise TimeoutError("no worker has taken the job")
    await asyncio.sleep(0.3)  # it is inside its tool
    killed = time.time()
    await members.pop(str(node)).kill()
    at = await _eventually(database, _AGAIN)
    return None if at is None else float(at) - killed


async def _eventually(database: Database, query: str) -> str | float | None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        if (found := await database.one(query, QUEUE)) is not None:
            value: str | float = found
            return value
        await asyncio.sleep(0.01)
    return None
