"""Forks: the same again, or something else, on a copy of the session as of a step."""

from __future__ import annotations

import pytest
from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from google.adk.tools import FunctionTool, ToolContext

from adk_oban._fork import whole
from adk_oban.on_complete import Then
from adk_oban.scheduled import ScheduledJob
from adk_oban.testing import ScriptedModel, call, drain
from attempts import SESSION, Runs, enqueue, shown

looked: list[str] = []
asked: list[list[str]] = []


@pytest.fixture
def run(dsn, migrated):
    looked.clear()
    asked.clear()
    return Runs(dsn, migrated)


async def look(at: str, tool_context: ToolContext) -> str:
    """Look at something."""
    looked.append(at)
    tool_context.state["seen"] = at
    tool_context.state[f"saw {at}"] = True
    tool_context.state["user:seen"] = at
    return f"a {at}"


def reply(request: LlmRequest) -> object:
    parts = [part for content in request.contents for part in content.parts]
    asked.append([part.text for part in parts if part.text])
    last = parts[-1]
    if last.function_response:
        return f"It is {last.function_response.response['result']}."
    return OSError("down") if last.text == "fails" else call("look", at=last.text)


AGENT = LlmAgent(name="a", model=ScriptedModel(replies=reply), tools=[look])


async def done(jobs, message: str = "cat", **options):
    job = await enqueue(message, **options)
    await drain(jobs)
    return await job.reload()


async def session_of(jobs, job):
    return await jobs.sessions.get_session(**{**SESSION, "session_id": job.session_id})


async def texts_of(jobs, job) -> list[str]:
    session = await session_of(jobs, job)
    events = [] if session is None else session.events
    parts = [part for e in events if e.content for part in e.content.parts]
    return [p.text or (p.function_call or p.function_response).name for p in parts]


TURN = ["cat", "look", "look", "It is a cat."]


async def test_the_same_again_costs_nothing(run):
    async with run.client(AGENT) as jobs:
        job = await done(jobs)
        fork = await job.fork()
        assert fork.session_id.startswith("fork-")
        assert [step.source for step in await fork.steps()] == ["replayed"] * 3
        assert fork.meta == {"forked_from": job.id, "after_step": None}
        assert (fork.args["message"], fork.queue) == ("cat", "agents")
        await drain(jobs)
        seen = await run.seen(jobs, await fork.reload(), {})
        first, second = await session_of(jobs, job), await session_of(jobs, fork)
    assert seen.result.steps == {
        "live": 0,
        "replayed": 3,
        "changed": 0,
        "live_model_calls": 0,
    }
    assert (looked, len(asked)) == (["cat"], 2)
    assert [shown(e) for e in first.events] == [shown(e) for e in second.events]
    assert first.state == second.state


@pytest.mark.parametrize(("after_step", "live"), [(0, 3), (1, 2), (2, 1), (3, 0)])
async def test_what_comes_after_the_step_runs_live(run, after_step, live):
    async with run.client(AGENT) as jobs:
        job = await done(jobs)
        fork = await job.fork(after_step=after_step)
        await drain(jobs)
        steps = (await fork.result(timeout=5)).steps
    assert (steps["replayed"], steps["live"]) == (3 - live, live)
    assert steps["changed"] == 0


async def test_steps_that_are_old_are_replayed_too(run, conn, migrated):
    async with run.client(AGENT) as jobs:
        job = await done(jobs)
        for sql in (
            "UPDATE {}.adk_oban_steps SET recorded_at = recorded_at - interval '2 h'",
            "UPDATE {}.oban_jobs SET inserted_at = inserted_at - interval '3 h'",
        ):
            await conn.execute(sql.format(migrated))
        fork = await (await job.reload()).fork()
        await drain(jobs)
        assert (await fork.result(timeout=5)).steps["replayed"] == 3


async def test_the_copy_is_the_session_as_it_was_before_the_job(run):
    async with run.client(AGENT) as jobs:
        first, job = await done(jobs, "dog"), await done(jobs, "cat")
        await done(jobs, "cow")
        fork = await job.fork(after_step=0)
        assert await texts_of(jobs, fork) == ["dog", "look", "look", "It is a dog."]
        session = await session_of(jobs, fork)
        assert session.state == {"seen": "dog", "saw dog": True, "user:seen": "cow"}
        await drain(jobs)
        assert (await fork.result(timeout=5)).text == "It is a cat."
        original = await session_of(jobs, first)
        assert len(original.events) == 12


async def test_state_from_before_all_events_stays_if_nobody_changed_it(run):
    async with run.client(AGENT) as jobs:
        made = {"seen": "nothing", "name": "Bo"}
        await jobs.sessions.create_session(**SESSION, state=made)
        job = await done(jobs)
        fork = await job.fork(after_step=0)
        session = await session_of(jobs, fork)
    assert session.state == {"name": "Bo", "user:seen": "cat"}


async def test_a_message_follows_on_what_the_job_did(run):
    async with run.client(AGENT) as jobs:
        await done(jobs, "dog")
        job = await done(jobs, "cat")
        await done(jobs, "cow")
        fork = await job.fork(message="bee")
        await drain(jobs)
        assert (await fork.result(timeout=5)).text == "It is a bee."
        assert (await texts_of(jobs, fork))[4:8] == TURN
        state = (await session_of(jobs, fork)).state
    assert {key for key in state if key.startswith("saw")} == {
        "saw dog",
        "saw cat",
        "saw bee",
    }
    assert asked[-1][:4] == ["dog", "It is a dog.", "cat", "It is a cat."]


@pytest.mark.parametrize(
    ("after_step", "left"),
    [(0, []), (1, ["cat"]), (2, ["cat", "look", "look"]), (3, TURN)],
)
async def test_a_message_follows_on_a_step(run, after_step, left):
    async with run.client(AGENT) as jobs:
        job = await done(jobs)
        fork = await job.fork(after_step=after_step, message="bee")
        assert await texts_of(jobs, fork) == left
        session = await session_of(jobs, fork)
        assert ("saw cat" in session.state) == (after_step > 1)
        await drain(jobs)
        assert (await fork.result(timeout=5)).text == "It is a bee."
    assert looked == ["cat", "bee"]


async def broken(jobs):
    """Return a job that was discarded when its tool had run."""
    job = await enqueue("cat", max_attempts=1)
    assert await drain(jobs) == {"discarded": 1}
    return await job.reload()


def breaking(request: LlmRequest) -> object:
    if request.contents[-1].parts[-1].function_response and len(asked) < 2:
        asked.append(["down"])
        return OSError("down")
    return reply(request)


BREAKS = LlmAgent(name="a", model=ScriptedModel(replies=breaking), tools=[look])


async def test_a_discarded_job_is_forked_where_it_was(run):
    async with run.client(BREAKS) as jobs:
        job = await broken(jobs)
        fork = await job.fork()
        await drain(jobs)
        result = await fork.result(timeout=5)
        assert await session_of(jobs, job) is None
    assert (result.text, result.steps["replayed"]) == ("It is a cat.", 2)
    assert looked == ["cat"]


async def test_a_message_follows_on_what_a_discarded_job_did(run):
    async with run.client(BREAKS) as jobs:
        job = await broken(jobs)
        fork = await job.fork(message="bee")
        assert await texts_of(jobs, fork) == ["cat", "look", "look"]
        session = await session_of(jobs, fork)
        assert session.state == {"seen": "cat", "saw cat": True}
        await drain(jobs)
        assert (await fork.result(timeout=5)).text == "It is a bee."


async def test_later_turns_are_not_in_the_fork_of_a_discarded_job(run):
    async with run.client(BREAKS) as jobs:
        job = await broken(jobs)
        await done(jobs, "dog")
        fork = await job.fork(message="bee", after_step=2)
        assert await texts_of(jobs, fork) == ["cat", "look", "look"]


async def test_a_job_that_waits_is_forked_on_the_session_of_now(run):
    async with run.client(AGENT, backoff=lambda _job: 3600) as jobs:
        await done(jobs, "dog")
        job = await enqueue("cat", schedule_in=3600)
        fork = await job.fork(message="bee")
        assert len(await texts_of(jobs, fork)) == 4
        await drain(jobs, with_scheduled=False)
        assert (await fork.result(timeout=5)).text == "It is a bee."


async def test_a_job_that_has_paused_asks_again(run):
    tool = FunctionTool(look, require_confirmation=True)
    mine = LlmAgent(name="a", model=ScriptedModel(replies=reply), tools=[tool])
    async with run.client(mine) as jobs:
        job = await done(jobs)
        (question,) = await jobs.approvals(job_id=job.id)
        await job.approve(question.id)
        await drain(jobs)
        fork = await job.fork()
        await drain(jobs)
        (question,) = await jobs.approvals(job_id=fork.id)
        await fork.approve(question.id)
        await drain(jobs)
        result = await fork.result(timeout=5)
    assert (result.text, result.steps["live"]) == ("It is a cat.", 0)
    assert looked == ["cat"]


async def test_a_job_that_waits_for_an_answer_is_forked_before_its_question(run):
    tool = FunctionTool(look, require_confirmation=True)
    mine = LlmAgent(name="a", model=ScriptedModel(replies=reply), tools=[tool])
    async with run.client(mine) as jobs:
        await done(jobs)
        (question,) = await jobs.approvals()
        job = await jobs.get_job(question.job_id)
        fork = await job.fork(message="bee")
        assert await texts_of(jobs, fork) == ["cat"]


async def test_options_and_session_are_the_callers(run):
    async with run.client(AGENT) as jobs:
        job = await done(jobs, tags=["x"], priority=5)
        same = await job.fork()
        other = await job.fork(
            session_id="mine", queue="q", priority=1, tags=["y"], meta={"why": "test"}
        )
    assert (same.priority, same.tags) == (5, ("x",))
    assert (other.session_id, other.queue, other.priority) == ("mine", "q", 1)
    assert other.tags == ("y",)
    assert other.meta == {"why": "test", "forked_from": job.id, "after_step": None}


async def test_what_follows_on_the_job_does_not_follow_on_its_fork(run):
    async with run.client(AGENT):
        job = await enqueue("cat", on_complete=Then("a", "next"), when_busy="merge")
        fork = await job.fork()
    assert {"on_complete", "when_busy"} <= set(job.args)
    assert not {"on_complete", "when_busy"} & set(fork.args)


async def test_a_scheduled_job_is_forked_as_one(run):
    async with run.client(AGENT) as jobs:
        job = await ScheduledJob.schedule("a", message="cat")
        await drain(jobs)
        fork = await job.fork()
        await drain(jobs)
        result = await fork.result(timeout=5)
    assert fork.worker == "adk_oban.scheduled.ScheduledJob"
    assert (result.app_name, result.user_id) == ("adk_scheduled", "system")
    assert result.steps["replayed"] == 3


async def test_a_fork_can_be_forked(run):
    async with run.client(AGENT) as jobs:
        fork = await (await done(jobs)).fork(message="dog")
        await drain(jobs)
        second = await fork.fork(after_step=2)
        await drain(jobs)
        assert (await second.result(timeout=5)).steps["replayed"] == 2
        assert len(await texts_of(jobs, second)) == 8


async def test_a_job_that_oban_has_pruned_is_forked_from_what_is_left(run):
    async with run.client(AGENT) as jobs:
        job = await done(jobs)
        await jobs.oban.delete_job(job.id)
        fork = await job.fork()
        await drain(jobs)
        assert (await fork.result(timeout=5)).steps["replayed"] == 3


async def test_a_step_that_is_not_there_is_refused(run):
    async with run.client(AGENT) as jobs:
        job = await done(jobs)
        with pytest.raises(ValueError, match="job 1 has 3 steps, got after_step=4"):
            await job.fork(after_step=4)


async def test_steps_that_were_pruned_are_refused(run, conn, migrated):
    async with run.client(AGENT) as jobs:
        job = await done(jobs)
        await conn.execute(f"DELETE FROM {migrated}.adk_oban_steps")
        for options in ({}, {"after_step": 1}, {"after_step": 1, "message": "bee"}):
            with pytest.raises(ValueError, match="steps of job 1 have been pruned"):
                await job.fork(**options)
        assert await texts_of(jobs, await job.fork(message="bee")) == TURN
        assert await texts_of(jobs, await job.fork(after_step=0)) == []


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"after_step": -1}, ValueError, "after_step must be 0 or more, got -1"),
        ({"after_step": "1"}, TypeError, "after_step must be a number, got '1'"),
        ({"after_step": True}, TypeError, "after_step must be a number"),
        ({"message": ""}, ValueError, "message must not be missing or empty"),
        ({"session_id": ""}, ValueError, "session_id must not be"),
        ({"session_id": "s"}, ValueError, "session 's' is there already"),
        ({"priority": 10}, ValueError, "priority must be 0 to 9"),
        ({"colour": 1}, TypeError, "unknown options"),
    ],
)
async def test_what_is_wrong_is_refused(run, conn, migrated, wrong, error, message):
    async with run.client(AGENT) as jobs:
        job = await done(jobs)
        with pytest.raises(error, match=message):
            await job.fork(**wrong)
        rows = await conn.execute(f"SELECT count(*) FROM {migrated}.oban_jobs")
        assert await rows.fetchone() == (1,)


def event(**part) -> dict:
    return {"content": {"parts": [part]}}


def test_a_history_ends_before_a_call_that_nobody_answered():
    ask, answer = {"function_call": {"id": "1"}}, {"function_response": {"id": "1"}}
    text, other = {"text": "hi"}, {"function_call": {"id": "2"}}
    cut = whole([event(**text), event(**ask), event(**answer), event(**other)])
    assert cut == [event(**text), event(**ask), event(**answer)]
    assert whole([event(**ask), event(**text)]) == []
    assert whole([{}, event(**text)]) == [{}, event(**text)]
