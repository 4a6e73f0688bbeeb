"""Processes that are killed, stopped, cut off or told to end lose no job."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker
from adk_oban.errors import JobFailedError
from adk_oban.jobs import AgentJob
from processes import Process, python

WORKER = str(Path(__file__).with_name("live_worker.py"))

type Start = Callable[..., Process]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that jobs wait for: as long as it is there, they go on."""
    path = tmp_path / "gate"
    path.touch()
    return path


@pytest.fixture
def start(dsn: str, migrated: str, gate: Path) -> Iterator[Start]:
    """Starts a worker whose options are AdkOban's, and waits until it is ready."""
    with ExitStack() as stack:

        def start(*, ready: bool = True, **options: object) -> Process:
            arguments = (WORKER, dsn, migrated, str(gate), json.dumps(options))
            worker = stack.enter_context(python(*arguments))
            if ready:
                worker.line_with("ready")
            return worker

        yield start


@pytest.fixture
async def client(dsn: str, migrated: str) -> AsyncIterator[AdkOban]:
    async with AdkOban(dsn, prefix=migrated) as jobs:
        yield jobs


async def enqueue(message: str = "hi", **options: object) -> AgentJob:
    return await AgentWorker.enqueue("slow", "u", message, **options)


async def until(true: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.02)


async def in_state(client: AdkOban, job: AgentJob, state: str) -> None:
    async def there() -> bool:
        return (await client.get_job(job.id)).state == state

    await until(there)


async def row_of(client: AdkOban, job: AgentJob):
    return await client.oban.get_job(job.id)


async def test_the_job_of_a_killed_worker_runs_elsewhere_at_once(client, start, gate):
    first = start()
    job = await enqueue()
    assert first.line() == "in the tool"
    other = start()
    first.kill(signal.SIGKILL)

    assert other.line() == "in the tool"
    gate.unlink()
    result = await job.result(timeout=30)
    row = await row_of(client, job)
    assert result.text == f"done by {other.popen.pid}"
    assert (row.attempt, row.meta["rescued"]) == (2, 1)
    assert row.errors[0]["attempt"] == 1
    assert f".{first.popen.pid} ended without a word" in row.errors[0]["error"]


async def test_ten_workers_killed_at_once_lose_no_job(client, start, gate):
    workers = [start(queues={"agents": 1}, ready=False) for _ in range(10)]
    for worker in workers:
        worker.line_with("ready")
    jobs = [await enqueue() for _ in workers]
    for worker in workers:
        assert worker.line() == "in the tool"
    heir = start()
    for worker in workers:
        worker.popen.send_signal(signal.SIGKILL)

    for _ in jobs:
        assert heir.line() == "in the tool"
    gate.unlink()
    done = {(await job.result(timeout=30)).text for job in jobs}
    assert done == {f"done by {heir.popen.pid}"}


async def test_a_killed_leader_delays_nothing(client, start, gate, conn, migrated):
    first = start()
    job = await enqueue()
    assert first.line() == "in the tool"
    await until(lambda: leader(conn, migrated))
    other = start()
    assert str(first.popen.pid) in await leader(conn, migrated)
    # Oban's leadership stays with the dead for 30 s, and does not matter.
    first.kill(signal.SIGKILL)

    assert other.line() == "in the tool"
    gate.unlink()
    await job.result(timeout=30)


async def leader(conn: AsyncConnection, prefix: str) -> str | None:
    rows = await conn.execute(f"SELECT node FROM {prefix}.oban_leaders")
    row = await rows.fetchone()
    return row and row[0]


async def test_a_stopped_worker_loses_its_job_and_cannot_end_it(client, start, gate):
    zombie = start(lock_timeout=3)
    job = await enqueue()
    assert zombie.line() == "in the tool"
    other = start()
    zombie.popen.send_signal(signal.SIGSTOP)
    assert other.line() == "in the tool"

    gate.unlink()
    zombie.popen.send_signal(signal.SIGCONT)
    result = await job.result(timeout=30)
    await in_state(client, job, "completed")
    assert result.text == f"done by {other.popen.pid}"
    assert zombie.kill(signal.SIGTERM) == 0
    row = await row_of(client, job)
    assert (row.state, row.attempt, len(row.errors)) == ("completed", 2, 1)


async def test_a_worker_that_was_stopped_works_again(client, start, gate):
    zombie = start(lock_timeout=3)
    job = await enqueue()
    assert zombie.line() == "in the tool"
    other = start()
    zombie.popen.send_signal(signal.SIGSTOP)
    assert other.line() == "in the tool"
    zombie.popen.send_signal(signal.SIGCONT)
    other.kill(signal.SIGKILL)

    assert zombie.line() == "in the tool"
    gate.unlink()
    assert (await job.result(timeout=30)).text == f"done by {zombie.popen.pid}"


async def test_a_long_job_is_not_started_twice(client, start, gate, conn, migrated):
    lifeline = {"interval": 0.05, "rescue_after": 0.1}
    worker = start(lifeline=lifeline, leadership=True)
    other = start(lifeline=lifeline, leadership=True)
    job, plain = await enqueue(), await client.oban.enqueue(old_job())
    await conn.execute(
        f"UPDATE {migrated}.oban_jobs SET state = 'executing', "
        "attempted_at = timezone('UTC', now()), attempted_by = '{elsewhere, x}' "
        "WHERE id = %s",
        (plain.id,),
    )

    # It shows that Oban's lifeline looks, and leaves the other one alone.
    async def rescued() -> bool:
        return (await client.oban.get_job(plain.id)).state == "available"

    await until(rescued)
    row = await row_of(client, job)
    assert (row.state, row.attempt, row.errors) == ("executing", 1, [])
    gate.unlink()
    assert (await job.result(timeout=30)).attempts == 1
    assert {worker.kill(signal.SIGTERM), other.kill(signal.SIGTERM)} == {0}


def old_job():
    from oban import Job

    return Job("somebody.elses.Worker", queue="elsewhere")


async def test_sigterm_hands_jobs_back_and_uses_no_attempt(client, start, gate):
    first = start(shutdown_grace_period=0.1)
    job = await enqueue(max_attempts=1)
    assert first.line() == "in the tool"
    assert first.kill(signal.SIGTERM) == 0
    row = await row_of(client, job)
    assert (row.state, row.attempt, row.errors) == ("available", 0, [])

    start(ready=False).line_with("in the tool")
    gate.unlink()
    assert (await job.result(timeout=30)).attempts == 1


async def test_sigterm_lets_jobs_end_that_do_in_time(client, start, gate):
    worker = start(shutdown_grace_period=30)
    job = await enqueue()
    assert worker.line() == "in the tool"
    worker.popen.send_signal(signal.SIGTERM)
    gate.unlink()
    assert worker.popen.wait(30) == 0
    assert (await row_of(client, job)).state == "completed"


async def test_a_deploy_under_load_loses_and_doubles_nothing(client, start, gate):
    workers = [start(shutdown_grace_period=0, ready=False) for _ in range(2)]
    for worker in workers:
        worker.line_with("ready")
    jobs = [await enqueue() for _ in range(30)]
    for worker in workers:
        assert worker.line() == "in the tool"
    heir = start(queues={"agents": 50})
    for worker in workers:
        worker.popen.send_signal(signal.SIGTERM)
    gate.unlink()
    results = [await job.result(timeout=30) for job in jobs]
    assert {worker.popen.wait(30) for worker in workers} == {0}
    assert {result.attempts for result in results} == {1}
    assert heir.kill(signal.SIGTERM) == 0


async def test_poison_is_discarded_with_its_last_words(client, start):
    workers = [start(ready=False) for _ in range(3)]
    for worker in workers:
        worker.line_with("ready")
    job = await enqueue("die", max_attempts=2)
    with pytest.raises(JobFailedError, match="ended without a word") as caught:
        await job.result(timeout=30)
    row = await row_of(client, job)
    assert caught.value.state == "discarded"
    assert (row.state, row.attempt, len(row.errors)) == ("discarded", 2, 2)
    assert row.discarded_at is not None
    assert sum(worker.popen.poll() is None for worker in workers) == 1
