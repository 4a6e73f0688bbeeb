"""Who follows sees each event once and in order, whoever is killed or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, aclosing
from pathlib import Path
from random import Random

import pytest
from psycopg import AsyncConnection
from psycopg.errors import Error

from adk_oban import AdkOban, AgentWorker
from adk_oban.events import JobEvent
from adk_oban.jobs import AgentJob
from pg_proxy import Proxy, proxy
from processes import Process, python

WORKER = str(Path(__file__).with_name("follow_worker.py"))
PLACES = 20


@pytest.fixture
def workers(dsn: str, migrated: str) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def start(workers: ExitStack, dsn: str, prefix: str) -> Process:
    worker = workers.enter_context(python(WORKER, dsn, prefix))
    await asyncio.to_thread(worker.line_with, "ready")
    return worker


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
async def test_every_follower_sees_every_event_once_and_in_order(
    workers, dsn, migrated, conn, seed
):
    chance = Random(seed)
    # Before there are jobs, so that the first one does not do them all in peace.
    running = [await start(workers, dsn, migrated) for _ in range(2)]
    async with proxy(dsn) as between, AdkOban(between.dsn, prefix=migrated):
        jobs = [
            await AgentWorker.enqueue("looker", "u", f"{PLACES}", max_attempts=100)
            for _ in range(10)
        ]
        following = [
            asyncio.create_task(follow(job, Random(chance.random())))
            for job in jobs
            for _ in range(3)
        ]
        trouble = asyncio.create_task(
            trouble_(chance, workers, running, between, dsn, migrated, following)
        )
        async with asyncio.timeout(90):
            seen = await asyncio.gather(*following)
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)

    assert any(event.type == "rescued" for events in seen for event in events)
    for n, events in enumerate(seen):
        job = jobs[n // 3]
        assert [event.cursor for event in events] == await cursors(conn, migrated, job)
        assert events[-1].type == "completed"
        assert said(events) == [
            *(part for n in range(PLACES) for part in (f"look {n}", f"saw {n}")),
            "Nothing anywhere.",
        ]


async def follow(job: AgentJob, chance: Random) -> list[JobEvent]:
    """Follow a job to its end; go away at random, and come back with the cursor."""
    seen: list[JobEvent] = []
    while not (seen and seen[-1].is_outcome):
        after = seen[-1].cursor if seen else None
        patience = chance.randint(1, 6)
        if chance.random() < 0.3:
            await refused(job, chance)
        try:
            async with aclosing(job.events(after=after)) as events:
                async for event in events:
                    seen.append(event)
                    patience -= 1
                    if not patience:
                        break
        except (Error, OSError):
            continue  # cut off: as a client does, once more
        await asyncio.sleep(chance.random() * 0.05)
    return seen


async def refused(job: AgentJob, chance: Random) -> None:
    """Ask with a cursor that is wrong."""
    wrong = [f"{job.id + 1}-1", f"{job.id}-x", "", f"{job.id}-{2**63}", f"-{job.id}"]
    with pytest.raises(ValueError, match="after must be"):
        job.events(after=chance.choice(wrong))


async def trouble_(
    chance: Random,
    workers: ExitStack,
    running: list[Process],
    between: Proxy,
    dsn: str,
    prefix: str,
    following: list[asyncio.Task[list[JobEvent]]],
) -> None:
    """Kill workers, cut connections, and start workers anew, until all have ended."""
    for _ in range(6):
        await asyncio.sleep(0.1 + chance.random() * 0.4)
        if chance.random() < 0.5:
            await between.close()
        victim = running.pop(chance.randrange(len(running)))
        victim.kill()
        running.append(await start(workers, dsn, prefix))
    await asyncio.wait(following)


async def cursors(conn: AsyncConnection, prefix: str, job: AgentJob) -> list[str]:
    sql = f"SELECT id FROM {prefix}.adk_oban_events WHERE job_id = %s ORDER BY id"
    rows = await (await conn.execute(sql, (job.id,))).fetchall()
    return [f"{job.id}-{id}" for (id,) in rows]


def said(events: list[JobEvent]) -> list[str]:
    """Return what the agent did, in order, however often it was killed."""
    done = []
    for event in events:
        done += [f"look {call['args']['place']}" for call in event.tool_calls]
        for result in event.tool_results:
            done.append(f"saw {result['result']['result'].split()[-1]}")
        if event.type == "event" and event.text:
            done.append(event.text)
    return done
