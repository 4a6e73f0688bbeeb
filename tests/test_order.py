"""Order: jobs of one session one after another, and nobody else held up."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from psycopg.types.json import Jsonb

from adk_oban import AdkOban, AgentWorker, _oban, once
from adk_oban.testing import ScriptedModel, call, drain
from attempts import Runs, enqueue

said: list[str] = []
running: Counter[str] = Counter()


@pytest.fixture
def run(dsn, migrated):
    said.clear()
    running.clear()
    return Runs(dsn, migrated)


def reply(request: LlmRequest) -> object:
    text = request.contents[-1].parts[0].text
    said.append(text)
    return OSError("down") if "fails" in text else f"to {text}"


AGENT = LlmAgent(name="a", model=ScriptedModel(replies=reply))


async def next_one(jobs: AdkOban) -> str | None:
    """Run the next job that is available."""
    return await _oban.run_next(jobs.oban, "agents")


async def state(job) -> str:
    return (await job.reload()).state


async def test_jobs_of_a_session_run_in_the_order_of_their_ids(run):
    async with run.client(AGENT) as jobs:
        for n in range(4):
            await enqueue(f"{n}", priority=9 - n)
        await drain(jobs, with_scheduled=False)
        session = await jobs.sessions.get_session(
            app_name="app", user_id="u", session_id="s"
        )
    assert said == ["0", "1", "2", "3"]
    texts = [event.content.parts[0].text for event in session.events]
    assert texts == ["0", "to 0", "1", "to 1", "2", "to 2", "3", "to 3"]


async def test_jobs_of_a_session_run_one_at_a_time_and_in_order(run):
    async with run.client(AGENT, queues={"agents": 10}):
        many = [
            await enqueue(f"{session}{n}", session_id=session)
            for n in range(5)
            for session in "abc"
        ]
        for job in many:
            await job.result(timeout=30)
        assert all([(await job.reload()).attempt == 1 for job in many])
    for session in "abc":
        mine = [text for text in said if text.startswith(session)]
        assert mine == [f"{session}{n}" for n in range(5)]


async def test_one_that_waits_uses_no_attempt_and_is_woken(run):
    async with run.client(AGENT) as jobs:
        first, second = await enqueue("1", priority=9), await enqueue("2", priority=0)
        assert await next_one(jobs) == "scheduled"
        waits = await second.reload()
        assert (waits.state, waits.attempt) == ("scheduled", 0)
        assert waits.meta["adk_oban_waits"] == "order"
        assert await next_one(jobs) == "completed"
        assert (await state(first), await state(second)) == ("completed", "available")
        assert await next_one(jobs) == "completed"
        assert (await second.result(timeout=5)).attempts == 1


async def test_others_are_not_held_up(run):
    async with run.client(AGENT, backoff=lambda _job: 3600) as jobs:
        await enqueue("fails")
        same = {"session_id": "s"}
        await enqueue("session", session_id="t")
        await AgentWorker.enqueue("a", "v", "user", app_name="app", **same)
        await AgentWorker.enqueue("a", "u", "app", app_name="other", **same)
        ended = await drain(jobs, with_scheduled=False)
    assert ended == {"retryable": 1, "completed": 3}
    assert said == ["fails", "session", "user", "app"]


async def test_one_that_failed_holds_up_those_behind_it(run):
    async with run.client(AGENT, backoff=lambda _job: 3600) as jobs:
        await enqueue("fails")
        second = await enqueue("2")
        await drain(jobs, with_scheduled=False)
        assert (said, await state(second)) == (["fails"], "scheduled")


async def test_one_that_is_planned_for_later_holds_nobody_up(run):
    async with run.client(AGENT) as jobs:
        await enqueue("later", schedule_in=timedelta(hours=1))
        await enqueue("now")
        assert await drain(jobs, with_scheduled=False) == {"completed": 1}
        assert await drain(jobs) == {"completed": 1}
    assert said == ["now", "later"]


async def test_without_order_nobody_waits_and_nobody_is_waited_for(run):
    async with run.client(AGENT, backoff=lambda _job: 3600) as jobs:
        await enqueue("fails")
        await enqueue("free", ordering="none")
        await drain(jobs, with_scheduled=False)
        assert said == ["fails", "free"]
        await enqueue("free fails", session_id="t", ordering="none")
        await enqueue("in order", session_id="t")
        await drain(jobs, with_scheduled=False)
    assert said[2:] == ["free fails", "in order"]


async def test_the_end_of_a_discarded_job_wakes_the_next(run):
    async with run.client(AGENT) as jobs:
        await enqueue("fails", max_attempts=1, priority=9)
        second = await enqueue("2", priority=0)
        assert await next_one(jobs) == "scheduled"
        assert await next_one(jobs) == "discarded"
        assert await state(second) == "available"


async def test_the_end_of_a_cancelled_job_wakes_the_next(run, conn, migrated):
    async with run.client(AGENT) as jobs:
        first = await enqueue("1", priority=9)
        second = await enqueue("2", priority=0)
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET args = args - 'message' WHERE id = %s",
            [first.id],
        )
        assert await next_one(jobs) == "scheduled"
        assert await next_one(jobs) == "cancelled"
        assert await state(second) == "available"


async def test_cancelling_one_that_does_not_run_wakes_the_next(run):
    async with run.client(AGENT, backoff=lambda _job: 3600) as jobs:
        first, second = await enqueue("fails"), await enqueue("2")
        await drain(jobs, with_scheduled=False)
        assert await state(second) == "scheduled"
        await jobs.oban.cancel_job(first.id)
        assert await state(second) == "available"


async def test_one_that_waits_looks_again_by_itself(run):
    async with run.client(AGENT, backoff=lambda _job: 3600) as jobs:
        first = await enqueue("fails")
        second = await enqueue("2")
        await drain(jobs, with_scheduled=False)
        waits = await second.reload()
        assert 0 < (waits.scheduled_at - waits.attempted_at).total_seconds() <= 31
        await jobs.oban.delete_job(first.id)
        await _oban.stage(jobs.oban, "agents", before=waits.scheduled_at + LATER)
        assert await next_one(jobs) == "completed"


LATER = timedelta(seconds=1)


async def test_one_that_waits_for_a_person_holds_up_those_behind_it(run):
    @once
    async def lose() -> str:
        """Lose the answer."""
        raise OSError("lost")

    model = ScriptedModel(replies=[call("lose"), "one", "two"])
    agent = LlmAgent(name="a", model=model, tools=[lose])
    async with run.client(agent) as jobs:
        first, second = await enqueue("1"), await enqueue("2")
        await drain(jobs, with_scheduled=False)
        assert (await state(second)) == "scheduled"
        (step,) = await (await first.reload()).undecided()
        await first.decide(step.id, result="x")
        assert await drain(jobs, with_scheduled=False) == {"completed": 2}
        assert (await second.result(timeout=5)).text == "two"


async def test_a_row_of_another_program_without_an_app_waits_as_well(
    run, conn, migrated
):
    args = {"agent_module": "a", "user_id": "u", "session_id": "s"}
    async with run.client(AGENT) as jobs:
        for n, priority in ((1, 9), (2, 0)):
            await conn.execute(
                f"INSERT INTO {migrated}.oban_jobs (worker, args, queue, priority) "
                "VALUES ('ADK.Oban.AgentWorker', %s, 'agents', %s)",
                [Jsonb({**args, "message": f"{n}"}), priority],
            )
        await drain(jobs, with_scheduled=False)
    assert said == ["1", "2"]
