"""What gets lost: answers of the server, and cancellations nobody has asked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from psycopg import AsyncConnection

from adk_oban import _oban, _oban_producers, _steps, once, transactional
from adk_oban._replay_order import ReplayOrder
from adk_oban.testing import ScriptedModel, call, drain
from attempts import Runs, enqueue

ran: Counter[str] = Counter()


@pytest.fixture
def run(dsn: str, migrated: str) -> Runs:
    ran.clear()
    return Runs(dsn, migrated)


async def test_a_job_whose_fetch_was_not_answered_is_handed_back(run, conn, migrated):
    agent = LlmAgent(name="a", model=ScriptedModel(replies=["done"]))
    async with run.client(agent, queues={"agents": 1, "other": 1}) as jobs:
        await jobs.oban.pause_queue("agents")
        job = await enqueue()
        uuid = _oban_producers.uuids_of(jobs.oban)[0]
        # As the server has it when its answer does not arrive.
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET state = 'executing', attempt = 1, "
            "attempted_at = timezone('UTC', now()) - interval '1 minute', "
            "attempted_by = ARRAY['node', %s]",
            [uuid],
        )
        await jobs._hand_back.forgotten()
        assert (await job.reload()).state == "executing"
        await jobs._hand_back.forgotten()
        job = await job.reload()
        assert (job.state, job.attempt) == ("available", 0)


async def test_a_cancellation_that_nobody_asked_for_fails_the_attempt(run):
    def reply(_request: LlmRequest) -> str:
        ran["model"] += 1
        if ran["model"] == 1:
            raise asyncio.CancelledError("a library's")
        return "done"

    agent = LlmAgent(name="a", model=ScriptedModel(replies=reply))
    async with run.client(agent) as jobs:
        await enqueue()
        assert await drain(jobs) == {"retryable": 1, "completed": 1}


async def test_a_commit_that_was_not_answered_is_not_made_twice(
    run, conn, migrated, monkeypatch
):
    real = _steps.Steps.transaction
    table = f"{migrated}.bookings"
    await conn.execute(f"CREATE TABLE {table} (room text)")

    @asynccontextmanager
    async def lossy(self: Any) -> AsyncIterator[AsyncConnection[Any]]:
        async with real(self) as opened:
            yield opened
        raise psycopg.OperationalError("the server closed the connection")

    @transactional
    async def book(room: str, *, conn: AsyncConnection) -> str:
        """Book."""
        await conn.execute(f"INSERT INTO {table} VALUES (%s)", [room])
        return "booked"

    monkeypatch.setattr(_steps.Steps, "transaction", lossy)
    agent = LlmAgent(
        name="a",
        model=ScriptedModel(replies=[call("book", room="7"), "lost", "done"]),
        tools=[book],
        on_tool_error_callback=lambda tool, args, tool_context, error: {"error": "?"},
    )
    async with run.client(agent) as jobs:
        await enqueue()
        assert await drain(jobs) == {"retryable": 1, "completed": 1}
    rows = await (await conn.execute(f"SELECT room FROM {table}")).fetchall()
    assert rows == [("7",)]


async def test_no_callback_makes_an_answer_of_what_runs_once(run):
    @once
    async def pay() -> str:
        """Pay."""
        ran["pay"] += 1
        raise OSError("no answer")

    agent = LlmAgent(
        name="a",
        model=ScriptedModel(replies=lambda _request: call("pay")),
        tools=[pay],
        on_tool_error_callback=lambda tool, args, tool_context, error: {"error": "?"},
    )
    async with run.client(agent) as jobs:
        job = await enqueue()
        assert await drain(jobs, with_scheduled=False) == {"scheduled": 1}
        assert (len(await (await job.reload()).undecided()), ran["pay"]) == (1, 1)


async def test_what_runs_once_and_is_cut_off_at_the_last_attempt_waits(run):
    @once
    async def pay() -> str:
        """Pay."""
        await asyncio.Event().wait()
        return "never"

    model = ScriptedModel(replies=[call("pay")])
    agent = LlmAgent(name="a", model=model, tools=[pay])
    async with run.client(agent) as jobs:
        job = await enqueue(timeout=0.2, max_attempts=1)
        assert await _oban.run_next(jobs.oban, "agents") == "scheduled"
        assert len(await (await job.reload()).undecided()) == 1


async def test_steps_of_other_branches_are_replayed_in_their_order():
    order, went = ReplayOrder([(1, "a"), (2, "b"), (3, "a")]), list[int]()

    async def ask(step_id: int, branch: str) -> None:
        await order.wait(step_id, branch)
        went.append(step_id)

    late, early = ask(2, "b"), ask(1, "a")
    await asyncio.gather(late, early)
    await ask(3, "a")
    assert went == [1, 2, 3]


async def test_a_step_that_nobody_asks_for_is_not_waited_for_for_ever():
    order = ReplayOrder([(1, "a"), (2, "b")])
    await asyncio.wait_for(order.wait(2, "b"), 30)
