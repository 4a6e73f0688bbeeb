"""Jobs that ended without an answer go on from what they recorded."""

from __future__ import annotations

import pytest
from google.adk.agents import LlmAgent
from google.adk.tools import FunctionTool

from adk_oban import once
from adk_oban.errors import JobFailedError, JobNotFoundError, ResultTimeoutError
from adk_oban.testing import ScriptedModel, call, drain
from attempts import SESSION, Runs, enqueue

looked: list[str] = []


@pytest.fixture
def run(dsn, migrated):
    looked.clear()
    return Runs(dsn, migrated)


async def look() -> str:
    """Look."""
    looked.append("looked")
    return "a cat"


def agent(*replies: object, tools=(look,)) -> LlmAgent:
    return LlmAgent(name="a", model=ScriptedModel(replies=[*replies]), tools=[*tools])


async def texts_of(jobs) -> list[str]:
    session = await jobs.sessions.get_session(**SESSION)
    events = [] if session is None else session.events
    parts = [part for e in events if e.content for part in e.content.parts]
    return [part.text for part in parts if part.text]


async def test_a_discarded_job_goes_on_from_what_it_recorded(run):
    mine = agent(call("look"), OSError("down"), "It is a cat.")
    async with run.client(mine) as jobs:
        job = await enqueue(max_attempts=1)
        assert await drain(jobs) == {"discarded": 1}
        job = await job.retry()
        assert (job.state, job.max_attempts) == ("available", 2)
        assert await drain(jobs) == {"completed": 1}
        seen = await run.seen(jobs, job, {})
    assert seen.result.text == "It is a cat."
    assert looked == ["looked"]
    assert seen.steps(2)[:2] == ["model scripted replayed", "tool look replayed"]


async def test_one_that_waits_for_its_next_attempt_goes_on_at_once(run):
    async with run.client(
        agent(OSError("down"), "up"), backoff=lambda _job: 3600
    ) as jobs:
        job = await enqueue()
        await drain(jobs, with_scheduled=False)
        assert (await job.reload()).state == "retryable"
        await job.retry()
        assert await drain(jobs, with_scheduled=False) == {"completed": 1}


async def test_a_cancelled_job_is_not_cancelled_again(run):
    async with run.client(agent("hello")) as jobs:
        job = await enqueue()
        await job.cancel(reason="a mistake")
        job = await job.retry()
        assert not {"adk_oban_cancel", "cancel_attempted_at"} & set(job.meta)
        assert await drain(jobs) == {"completed": 1}
        assert (await job.result(timeout=5)).text == "hello"


async def test_the_former_end_is_not_taken_for_the_new_one(run):
    async with run.client(agent(OSError("down"), "up")) as jobs:
        job = await enqueue(max_attempts=1)
        await drain(jobs)
        with pytest.raises(JobFailedError):
            await job.result(timeout=5)
        await job.retry()
        with pytest.raises(ResultTimeoutError):
            await job.result(timeout=0)
        assert await jobs.get_result(job.id) is None
        await drain(jobs)
        assert (await job.result(timeout=5)).text == "up"


async def test_a_worker_that_waits_for_work_hears_of_it(run):
    mine = agent(OSError("down"), "up")
    async with run.client(mine, queues={"agents": 1}, stager={"interval": 60}):
        job = await enqueue(max_attempts=1)
        with pytest.raises(JobFailedError):
            await job.result(timeout=20)
        assert (await (await job.retry()).result(timeout=20)).text == "up"


async def test_one_whose_part_was_kept_goes_on_after_it(run):
    async def stop() -> str:
        """Stop."""
        await job.cancel(keep=True)
        return "stopped"

    mine = agent("Well", call("stop"), "done", tools=[stop])
    async with run.client(mine, queues={"agents": 1}) as jobs:
        await (await enqueue("before")).result(timeout=20)
        job = await enqueue("hi")
        with pytest.raises(JobFailedError):
            await job.result(timeout=20)
        assert await texts_of(jobs) == ["before", "Well", "hi"]
        await (await job.retry()).result(timeout=20)
        assert await texts_of(jobs) == ["before", "Well", "hi", "hi", "done"]


async def test_one_that_waited_for_an_answer_asks_again(run):
    tool = FunctionTool(look, require_confirmation=True)
    async with run.client(agent(call("look"), "It is a cat.", tools=[tool])) as jobs:
        job = await enqueue()
        await drain(jobs)
        await job.cancel()
        assert await jobs.approvals(job_id=job.id) == []
        job = await job.retry()
        assert (job.state, job.meta["adk_oban_waits"]) == ("scheduled", "approval")
        (asked,) = await jobs.approvals(job_id=job.id)
        await job.approve(asked.id)
        await drain(jobs)
        assert (await job.result(timeout=5)).text == "It is a cat."
    assert looked == ["looked"]


async def test_one_that_waited_for_a_decision_waits_for_it_again(run):
    @once
    async def lose() -> str:
        """Lose the answer."""
        raise OSError("lost")

    async with run.client(agent(call("lose"), "done", tools=[lose])) as jobs:
        job = await enqueue()
        await drain(jobs)
        await job.cancel()
        await job.retry()
        await drain(jobs)
        (step,) = await (await job.reload()).undecided()
        await job.decide(step.id, result="x")
        await drain(jobs)
        assert (await job.result(timeout=5)).text == "done"


async def test_what_has_not_ended_or_has_completed_is_refused(run):
    async with run.client(agent("one", "two"), backoff=lambda _job: 3600) as jobs:
        done, later = await enqueue(), await enqueue(schedule_in=3600)
        with pytest.raises(ValueError, match="job 1 cannot be retried: it is about to"):
            await done.retry()
        await drain(jobs, with_scheduled=False)
        with pytest.raises(ValueError, match=r"it has completed; fork\(\) runs it"):
            await done.retry()
        with pytest.raises(ValueError, match="it is scheduled, and runs at 20"):
            await later.retry()


async def test_what_waits_for_something_else_is_refused(run):
    tool = FunctionTool(look, require_confirmation=True)
    async with run.client(agent(call("look"), tools=[tool])) as jobs:
        asks, behind = await enqueue(), await enqueue()
        await drain(jobs, with_scheduled=False)
        with pytest.raises(ValueError, match="it waits for an answer"):
            await asks.retry()
        with pytest.raises(ValueError, match="an earlier job of its session"):
            await behind.retry()


async def test_one_that_is_gone_is_not_found(run):
    async with run.client(agent()) as jobs:
        job = await enqueue()
        await jobs.oban.delete_job(job.id)
        with pytest.raises(JobNotFoundError):
            await job.retry()
