"""People answer jobs from other processes than those that run them, whatever dies."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker
from adk_oban.approvals import Approval
from adk_oban.jobs import AgentJob
from processes import Process, python

HERE = Path(__file__).parent

type Start = Callable[..., Process]
type Answer = Callable[[AgentJob, Approval], Awaitable[object]]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file at which the model thinks, once a tool has run; it is not there yet."""
    return tmp_path / "gate"


@pytest.fixture
def programs(dsn: str, migrated: str) -> Iterator[Start]:
    """Starts a program of this folder, and waits until it is ready."""
    with ExitStack() as stack:

        def start(name: str, *arguments: object) -> Process:
            given = [str(each) for each in (HERE / name, dsn, migrated, *arguments)]
            process = stack.enter_context(python(*given))
            process.line_with("ready")
            return process

        yield start


@pytest.fixture
def start(programs: Start, gate: Path) -> Start:
    """Starts a worker whose options are AdkOban's."""

    def worker(**options: object) -> Process:
        return programs("approval_worker.py", gate, json.dumps(options))

    return worker


@pytest.fixture
async def client(dsn: str, migrated: str) -> AsyncIterator[AdkOban]:
    async with AdkOban(dsn, prefix=migrated) as jobs:
        yield jobs


@pytest.fixture(params=["python", "command line"])
def approve(request: pytest.FixtureRequest, dsn: str, migrated: str) -> Answer:
    """Says yes through one of the two doors."""

    async def by_command(_job: AgentJob, asked: Approval) -> None:
        words = ["approve", str(asked.id), "--by", "anna", "--json"]
        where = ["--dsn", dsn, "--prefix", migrated]
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "adk_oban", *words, *where, stdout=-3
        )
        assert await run.wait() == 0

    async def by_python(job: AgentJob, asked: Approval) -> None:
        await job.approve(asked.id, by="anna")

    return by_python if request.param == "python" else by_command


async def asked_by(client: AdkOban, job: AgentJob, count: int = 1) -> list[Approval]:
    """Wait until a job has paused, and return what it asks."""
    async with asyncio.timeout(30):
        while len(found := await client.approvals(job_id=job.id)) < count:
            await asyncio.sleep(0.01)
    return found


async def paused(client: AdkOban, message: str = "3", **options: object) -> AgentJob:
    """Enqueue a job, and wait until it asks."""
    job = await AgentWorker.enqueue("clerk", "u", message, **options)
    await asked_by(client, job)
    return job


async def answer_of(job: AgentJob) -> object:
    return json.loads((await job.result(timeout=30)).text)


async def line(process: Process) -> str:
    return await asyncio.to_thread(process.line)


async def test_a_job_whose_worker_died_while_it_waited_goes_on_elsewhere(
    client, start, approve
):
    first = start()
    job = await paused(client)
    first.kill()
    other = start()
    (asked,) = await client.approvals()

    await approve(job, asked)

    assert await answer_of(job) == [{"paid": 3}]
    assert [await line(other), (await line(other))[:8]] == ["paid 3", "thinking"]
    result = await job.result()
    assert (result.job_id, result.attempts, result.model_calls) == (job.id, 1, 2)
    (given,) = await client.approvals(state="approved")
    assert given.answered_by == "anna"


async def test_a_worker_killed_after_the_tool_ran_pays_nothing_twice(
    client, start, gate
):
    gate.touch()
    first = start()
    job = await paused(client)
    (asked,) = await client.approvals()
    await job.approve(asked.id)
    assert [await line(first), (await line(first))[:8]] == ["paid 3", "thinking"]
    other = start()
    first.kill()

    assert (await line(other)).startswith("thinking")
    gate.unlink()
    assert await answer_of(job) == [{"paid": 3}]
    result = await job.result()
    assert (result.attempts, result.model_calls, result.event_count) == (2, 2, 6)


async def test_the_job_goes_on_at_once_after_the_last_answer(client, start):
    worker = start()
    waits: list[tuple[float, float]] = []
    for _ in range(10):
        job = await paused(client)
        (asked,) = await client.approvals()
        called = time.time()
        await job.approve(asked.id)
        returned = time.time()
        assert await line(worker) == "paid 3"
        thinks = float((await line(worker)).split()[1])
        waits.append((thinks - called, thinks - returned))
    since_call, since_return = (
        statistics.median(each) * 1000 for each in zip(*waits, strict=True)
    )
    print(f"goes on {since_call:.0f} ms after the call, {since_return:.0f} after it")
    assert since_call < 1000


async def test_three_people_answer_three_questions_at_once(client, start, programs):
    start()
    start()
    job = await paused(client, "1 2 3")
    asked = await asked_by(client, job, 3)
    people = [
        programs("approval_client.py", job.id, each.id, f"person {each.id}")
        for each in asked
    ]

    said = await all_at_once(people)

    assert said == [f"approved person {each.id}" for each in asked]
    assert await answer_of(job) == [{"paid": 1}, {"paid": 2}, {"paid": 3}]
    assert (await job.result()).attempts == 1


async def test_of_two_who_answer_the_same_question_one_wins(client, start, programs):
    start()
    job = await paused(client)
    (asked,) = await client.approvals()
    people = [
        programs("approval_client.py", job.id, asked.id, name)
        for name in ("anna", "bo")
    ]

    said = await all_at_once(people)

    winner = "anna" if said[0].startswith("approved") else "bo"
    assert sorted(said) == [f"approved {winner}", f"refused approved {winner}"]
    assert await answer_of(job) == [{"paid": 3}]


async def all_at_once(people: list[Process]) -> list[str]:
    """Let people answer, and return what became of it."""
    for person in people:
        print(file=person.popen.stdin, flush=True)
    return [await line(person) for person in people]


@pytest.mark.parametrize(
    ("default", "state", "paid"),
    [("reject", "completed", []), ("approve", "completed", ["paid 3"]),
     ("cancel", "cancelled", [])],
)  # fmt: skip
async def test_a_deadline_that_passed_while_nobody_worked_is_kept(
    client, start, conn, migrated, default, state, paid
):
    first = start()
    job = await paused(client, approval_timeout=0.5, on_approval_timeout=default)
    first.kill()
    await passed(conn, migrated)
    assert (await job.reload()).state in ("scheduled", "available")

    other = start()

    async with asyncio.timeout(30):
        while (job := await job.reload()).state != state:
            await asyncio.sleep(0.02)
    for expected in paid:
        assert await line(other) == expected
    assert await client.approvals() == []


async def passed(conn: AsyncConnection, prefix: str) -> None:
    """Wait until all deadlines have passed."""
    open_ones = f"SELECT FROM {prefix}.adk_oban_approvals WHERE deadline > now()"
    async with asyncio.timeout(30):
        while await (await conn.execute(open_ones)).fetchone():
            await asyncio.sleep(0.02)


async def test_a_job_that_waits_for_people_holds_no_slot(client, start):
    start(queues={"agents": 1})
    waiting = [await paused(client) for _ in range(3)]
    other = await AgentWorker.enqueue("clerk", "u", "nothing")

    assert (await other.result(timeout=30)).text == "-"

    assert {(await job.reload()).state for job in waiting} == {"scheduled"}
