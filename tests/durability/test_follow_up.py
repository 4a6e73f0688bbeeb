"""What follows on a job survives the processes that see to it, and happens once."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker
from adk_oban.jobs import AgentJob
from adk_oban.on_complete import FanIn, Then, Webhook
from hooks import HANG, SECRET, Receiver, agents_jobs, follow_ups
from processes import Process, python

WORKER = str(Path(__file__).with_name("follow_up_worker.py"))

type Start = Callable[..., Process]


@pytest.fixture
def start(dsn: str, migrated: str) -> Iterator[Start]:
    """Starts a worker whose options are AdkOban's, and waits until it is ready."""
    with ExitStack() as stack:

        def start(**options: object) -> Process:
            arguments = (WORKER, dsn, migrated, json.dumps(options))
            env = {"ADK_OBAN_WEBHOOK_SECRET": SECRET}
            worker = stack.enter_context(python(*arguments, env=env))
            worker.line_with("ready")
            return worker

        yield start


@pytest.fixture
async def client(dsn: str, migrated: str) -> AsyncIterator[AdkOban]:
    async with AdkOban(dsn, prefix=migrated) as jobs:
        yield jobs


async def enqueue(message: str, **options: Any) -> AgentJob:
    return await AgentWorker.enqueue("writer", "u", message, **options)


async def until(true: Callable[[], Any], seconds: float = 30) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await true()):
            await asyncio.sleep(0.02)
        return found


async def all_have_ended(conn: AsyncConnection, prefix: str) -> None:
    async def none_left() -> bool:
        rows = await conn.execute(
            f"SELECT FROM {prefix}.oban_jobs "
            "WHERE state NOT IN ('completed', 'discarded', 'cancelled')"
        )
        return await rows.fetchone() is None

    await until(none_left)


async def seer_of(conn: AsyncConnection, prefix: str) -> int:
    """Return the process that runs the first job which sees to what follows."""

    async def runs() -> Any:
        rows = await follow_ups(conn, prefix)
        return rows and rows[0]["state"] == "executing" and rows[0]["attempted_by"]

    (node, _uuid) = await until(runs)
    return int(node.rpartition(".")[2])


async def test_a_chain_of_three_agents_ends_once(client, start, conn, migrated):
    start(), start()
    chain = Then("reviewer", "b", on_complete=Then("publisher", "c"))
    await enqueue("a", on_complete=chain)

    async def third() -> AgentJob | None:
        found = await agents_jobs(client, conn, migrated)
        return found[0] if len(found) == 3 else None

    last = await until(third)
    assert (await last.result(timeout=30)).text == "c|b|a"
    await all_have_ended(conn, migrated)
    assert len(await agents_jobs(client, conn, migrated)) == 3


async def test_a_batch_of_twenty_on_two_workers_starts_one_job(
    client, start, conn, migrated
):
    start(), start()
    step = FanIn("k", 20, Then("reviewer"))
    batch = [await enqueue(f"{n}", on_complete=step) for n in range(20)]

    async def next_job() -> AgentJob | None:
        found = await agents_jobs(client, conn, migrated)
        return next((job for job in found if "fan_in" in job.meta), None)

    result = await (await until(next_job)).result(timeout=30)
    told = [(end["job_id"], end["text"]) for end in json.loads(result.text)]
    assert told == [(job.id, f"{n}") for n, job in enumerate(batch)]
    await all_have_ended(conn, migrated)
    assert len(await agents_jobs(client, conn, migrated)) == 21


async def test_a_webhook_of_a_killed_worker_is_sent_by_another(
    client, start, conn, migrated
):
    workers = {worker.popen.pid: worker for worker in (start(), start())}
    with Receiver([HANG]) as receiver:
        await enqueue("a", on_complete=Webhook(receiver.url))
        pid = await seer_of(conn, migrated)

        async def posted(count: int) -> bool:
            return len(receiver.hooks) == count

        await until(lambda: posted(1))
        workers[pid].kill(signal.SIGKILL)
        await until(lambda: posted(2))

    first, second = receiver.hooks
    assert (first.id, first.body) == (second.id, second.body)
    assert second.told()["data"]["text"] == "a"
    await all_have_ended(conn, migrated)


async def test_a_batch_whose_worker_is_killed_in_the_middle_starts_one_job(
    client, start, conn, migrated, dsn
):
    workers = {worker.popen.pid: worker for worker in (start(), start())}
    async with await AsyncConnection.connect(dsn) as blocker:
        # It waits in the middle of its transaction, since the batch's row is locked.
        await blocker.execute(
            f"INSERT INTO {migrated}.adk_oban_fan_ins (key, size, ended) "
            "VALUES ('k', 1, 0)"
        )
        job = await enqueue("a", on_complete=FanIn("k", 1, Then("reviewer")))
        pid = await seer_of(conn, migrated)
        workers.pop(pid).kill(signal.SIGKILL)

        async def elsewhere() -> bool:
            return await seer_of(conn, migrated) in workers

        await until(elsewhere)
        await blocker.rollback()
    await all_have_ended(conn, migrated)

    after = [
        each.meta.get("after_job") for each in await agents_jobs(client, conn, migrated)
    ]
    assert after == [job.id, None]


async def test_a_webhook_is_sent_again_after_a_refusal_and_a_receiver_that_was_down(
    client, start, conn, migrated
):
    start(), start()
    with Receiver([503]) as receiver:
        port = receiver.port
        await enqueue("a", on_complete=Webhook(receiver.url))

        async def refused() -> bool:
            return len(receiver.hooks) == 1

        await until(refused)

    async def failed_twice() -> bool:
        (row,) = await follow_ups(conn, migrated)
        return len(row["errors"]) >= 2 and "could not be" in row["errors"][-1]["error"]

    await until(failed_twice)
    with Receiver(port=port) as again:
        await all_have_ended(conn, migrated)

    assert [hook.id for hook in again.hooks] == [receiver.hooks[0].id]
    assert again.hooks[0].told()["data"]["text"] == "a"
