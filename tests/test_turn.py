"""A turn lands whole, once, and only for the job's owner."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import Context
from typing import Any
from urllib.parse import quote

import pytest
from google.adk.agents import BaseAgent, LlmAgent, ParallelAgent
from google.adk.events import Event, EventActions
from google.adk.models.llm_response import LlmResponse
from google.adk.sessions import DatabaseSessionService
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from oban import current_job
from psycopg.conninfo import conninfo_to_dict

from adk_oban import AdkOban, AgentWorker, _oban
from adk_oban.errors import JobFailedError
from adk_oban.testing import ScriptedModel, call, drain
from attempts import SESSION, Runs, attempt, enqueue, fail_commits

ran: Counter[str] = Counter()


@pytest.fixture
def run(dsn, migrated):
    ran.clear()
    return Runs(dsn, migrated)


@pytest.fixture
async def adks(dsn):
    """ADK's own session service, on the same tables."""
    url = dsn_to_url(dsn)
    service = DatabaseSessionService(url)
    yield service
    await service.close()


def dsn_to_url(dsn: str) -> str:
    parts = conninfo_to_dict(dsn)
    query = "&".join(f"{k}={quote(str(parts[k]))}" for k in parts if k != "dbname")
    return f"postgresql+psycopg://@/{parts['dbname']}?{query}"


async def look(x: str = "") -> str:
    """Look."""
    ran["look"] += 1
    return f"seen {x}"


def agent(*replies: Any, tools: Any = (look,), **options: Any) -> LlmAgent:
    model = ScriptedModel(replies=[*replies])
    return LlmAgent(name="a", model=model, tools=[*tools], **options)


def texts(session) -> list[str]:
    said = [event.content for event in session.events if event.content]
    parts = [part for content in said for part in content.parts]
    return [part.text for part in parts if part.text]


async def write(jobs: AdkOban, text: str = "by hand", **state: Any) -> None:
    """Write to the session as somebody else does, in a process of theirs."""
    await asyncio.create_task(_write(jobs, text, state), context=Context())


async def _write(jobs: AdkOban, text: str, state: dict[str, Any]) -> None:
    session = await jobs.sessions.get_session(**SESSION)
    if session is None:
        session = await jobs.sessions.create_session(**SESSION)
    content = types.Content(role="user", parts=[types.Part(text=text)])
    actions = EventActions(state_delta=state)
    event = Event(author="user", content=content, actions=actions)
    await jobs.sessions.append_event(session, event)


async def test_a_retry_leaves_no_trace_in_the_session(run):
    replies = [call("look", x="1"), OSError("1"), call("look"), OSError("2"), "done"]
    seen = await run(agent(*replies))
    smooth = [reply for reply in replies if not isinstance(reply, OSError)]
    live = await run(agent(*smooth), session_id="live")
    assert seen.ended == {"retryable": 2, "completed": 1}
    assert seen.events == live.events
    assert len(seen.events) == 6


async def test_a_reader_sees_nothing_before_the_end(run):
    async with run.client() as reader:

        async def peek(tool_context: ToolContext) -> str:
            """Peek."""
            tool_context.state["k"] = tool_context.state["user:k"] = 1
            session = await reader.sessions.get_session(**SESSION)
            ran["seen"] += session is not None
            return "peeked"

        async with run.client(
            agent(call("peek"), call("peek"), "done", tools=[peek]), name="worker"
        ) as jobs:
            await enqueue(oban="worker")
            assert await drain(jobs) == {"completed": 1}
        assert ran["seen"] == 0
        session = await reader.sessions.get_session(**SESSION)
    assert (len(session.events), session.state) == (6, {"k": 1, "user:k": 1})


async def test_adks_own_service_reads_the_turn_and_goes_on(run, adks):
    async def put(tool_context: ToolContext) -> str:
        """Put."""
        for key in ("k", "user:k", "app:k", "temp:k"):
            tool_context.state[key] = [1]
        return "put"

    seen = await run(agent(call("put"), OSError("x"), "done", tools=[put]))
    session = await adks.get_session(**SESSION)
    assert session.state == {"k": [1], "user:k": [1], "app:k": [1]}
    assert [event.id for event in session.events] == [
        event.id for event in seen.session.events
    ]
    times = [event.timestamp for event in session.events]
    assert times == sorted(times)
    assert session.last_update_time >= times[-1]
    await adks.append_event(session, Event(author="user"))
    await run(agent("two"), message="more")
    assert len((await adks.get_session(**SESSION)).events) == 7


async def test_a_session_that_adks_service_made_goes_on(run, adks):
    await adks.create_session(**SESSION, state={"k": 1, "user:k": 2})
    session = await adks.get_session(**SESSION)
    await adks.append_event(session, Event(author="user"))
    seen = await run(agent("done"))
    assert (len(seen.events), seen.state) == (3, {"k": 1, "user:k": 2})
    assert len((await adks.get_session(**SESSION)).events) == 3


async def test_every_turn_makes_a_new_revision(run, conn, migrated):
    times = []
    for n in range(3):
        await run(agent(f"{n}"))
        cursor = await conn.execute(f"SELECT update_time FROM {migrated}.sessions")
        times += [time for (time,) in await cursor.fetchall()]
    assert times == sorted(set(times))
    cursor = await conn.execute(f"SELECT max(timestamp) FROM {migrated}.events")
    assert (await cursor.fetchone())[0] <= times[-1]


@pytest.mark.parametrize("kind", ["discarded", "cancelled"])
async def test_a_job_without_an_answer_leaves_the_session_as_it_was(run, kind):
    async def put(tool_context: ToolContext) -> object:
        """Put."""
        tool_context.state["k"] = tool_context.state["app:k"] = 2
        return object() if kind == "cancelled" else "put"

    await run(agent("one"))
    downs = [OSError("down")] * 3
    seen = await run(agent(call("put"), *downs, tools=[put]), message="again")
    assert seen.job.state == kind
    assert texts(seen.session) == ["hi", "one"]
    assert seen.state == {}


async def cancel(tool_context: ToolContext) -> str:
    """Have the job cancelled that runs it."""
    if attempt() == 1:
        current_job()._cancellation.set()
    return "cancelled"


async def test_a_job_that_is_cancelled_while_it_runs_leaves_nothing(run):
    seen = await run(agent(call("cancel"), "never", tools=[cancel]))
    assert (seen.job.state, seen.session) == ("cancelled", None)
    with pytest.raises(JobFailedError, match="cancelled while it ran"):
        async with run.client() as jobs:
            await jobs.get_result(seen.job.id)


async def test_a_cancelled_job_keeps_its_part_if_it_says_so(run):
    async def put(tool_context: ToolContext) -> str:
        """Put."""
        tool_context.state["k"] = 1
        return "put"

    mine = agent(call("put"), call("cancel"), "never", tools=[put, cancel])
    seen = await run(mine, on_cancel="keep")
    assert (seen.job.state, seen.state) == ("cancelled", {"k": 1})
    events = seen.session.events
    calls = [c.id for event in events for c in event.get_function_calls()]
    answers = [r.id for event in events for r in event.get_function_responses()]
    assert (len(calls), answers) == (2, calls)


async def test_what_was_kept_does_not_stand_in_the_way_of_a_retry(run):
    async with run.client(agent(call("cancel"), "done", tools=[cancel])) as jobs:
        job = await enqueue(on_cancel="keep")
        assert await drain(jobs) == {"cancelled": 1}
        await jobs.oban.retry_job(job.id)
        assert await drain(jobs) == {"completed": 1}
        seen = await run.seen(jobs, job, {})
    assert seen.result.text == "done"


async def test_a_session_that_moved_is_read_again(run):
    async with run.client(name="other") as other:

        async def disturb(tool_context: ToolContext) -> str:
            """Disturb."""
            ran["disturb"] += 1
            await write(other, f"by hand {ran['disturb']}")
            return "disturbed"

        await run(agent("one"))
        mine = agent(call("disturb"), "two", "two again", tools=[disturb])
        mine.include_contents = "none"
        seen = await run(mine, message="again")
    assert seen.ended == {"completed": 1}
    assert (seen.result.attempts, ran["disturb"]) == (1, 1)
    assert texts(seen.session) == ["hi", "one", "by hand 1", "again", "two"]
    assert seen.count(1, "tool disturb replayed") == 1


async def test_a_session_that_moved_is_seen_by_the_second_run(run):
    async with run.client(name="other") as other:

        async def disturb(tool_context: ToolContext) -> str:
            """Disturb."""
            ran["disturb"] += 1
            if ran["disturb"] == 1:
                await write(other, "by hand", mood="good")
            return "disturbed"

        replies = [call("disturb"), "two", call("disturb"), "two again"]
        mine = agent(*replies, tools=[disturb])
        await run(agent("one"))
        seen = await run(mine, message="again")
    assert (seen.ended, ran["disturb"]) == ({"completed": 1}, 1)
    assert seen.state == {"mood": "good"}
    assert texts(seen.session) == ["hi", "one", "by hand", "again", "two again"]
    changed = [step for step in seen.told if step["source"] == "changed"]
    assert changed[0]["changed"] == ["contents"]


async def test_a_tool_that_writes_to_the_jobs_session_itself_does_no_harm(run):
    async with run.client(name="other") as other:

        async def tell() -> str:
            """Tell."""
            await _write(other, "by tool", {})
            return "told"

        await run(agent("one"))
        mine = agent(call("tell"), "two", "three", tools=[tell])
        mine.include_contents = "none"
        seen = await run(mine, message="again")
    assert seen.ended == {"completed": 1}
    assert texts(seen.session) == ["hi", "one", "by tool", "again", "two"]


async def test_a_tool_that_wrote_to_another_session_may_run_again(run):
    async with run.client(name="other") as other:

        async def tell() -> str:
            """Tell, and fail the first time."""
            await _write(other, f"by tool {attempt()}", {})
            if attempt() == 1:
                raise OSError("down")
            return "told"

        seen = await run(agent(call("tell"), "done", tools=[tell]), session_id="t")
        session = await other.sessions.get_session(**SESSION)
    assert seen.ended == {"retryable": 1, "completed": 1}
    assert texts(session) == ["by tool 1", "by tool 2"]


async def test_a_session_that_always_moves_fails_the_attempt_in_the_end(run):
    async with run.client(name="other") as other:

        async def before_agent(callback_context) -> None:
            ran["runs"] += 1
            await write(other)

        mine = agent("x", before_agent_callback=before_agent)
        mine.include_contents = "none"
        seen = await run(mine, max_attempts=1)
    assert seen.job.state == "discarded"
    assert "was written by somebody else during each of 10 runs" in seen.error
    assert ran["runs"] == 10
    assert texts(seen.session) == ["by hand"] * 10


@pytest.mark.parametrize("sql", ["DELETE FROM {p}.sessions"])
async def test_a_session_that_was_deleted_meanwhile_is_made_anew(
    run, conn, migrated, sql
):
    async def disturb() -> str:
        """Disturb."""
        await conn.execute(sql.format(p=migrated))
        return "gone"

    await run(agent("one"))
    mine = agent(call("disturb"), "two", tools=[disturb])
    mine.include_contents = "none"
    seen = await run(mine, message="again")
    assert seen.ended == {"completed": 1}
    assert texts(seen.session) == ["again", "two"]


async def test_a_lost_job_writes_nothing(run, conn, migrated):
    async def lose() -> str:
        """Lose the job."""
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET attempted_at = attempted_at "
            "+ interval '1 second'"
        )
        return "lost"

    seen = await run(agent(call("lose"), "never", tools=[lose]))
    assert (seen.job.state, seen.job.attempt) == ("executing", 1)
    assert (seen.session, seen.result, seen.job.errors) == (None, None, ())
    assert seen.steps(1) == ["model scripted live"]


async def test_a_lost_job_that_fails_leaves_no_result(run, conn, migrated):
    async def lose() -> str:
        """Lose the job, and fail."""
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET attempted_at = attempted_at "
            "+ interval '1 second'"
        )
        raise OSError("down")

    seen = await run(agent(call("lose"), tools=[lose]), max_attempts=1)
    assert seen.job.state == "executing"
    cursor = await conn.execute(f"SELECT state FROM {migrated}.adk_oban_results")
    assert await cursor.fetchall() == []


@pytest.mark.filterwarnings("ignore:ParallelAgent is deprecated")
async def test_a_job_that_is_lost_in_parallel_agents_writes_nothing(
    run, conn, migrated
):
    async def lose() -> str:
        """Lose the job."""
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET attempted_at = attempted_at "
            "+ interval '1 second'"
        )
        return "lost"

    def one(name: str) -> LlmAgent:
        model = ScriptedModel(replies=[call("lose"), "never"])
        return LlmAgent(name=name, model=model, tools=[lose])

    seen = await run(ParallelAgent(name="p", sub_agents=[one("x"), one("y")]))
    assert (seen.job.state, seen.session, seen.job.errors) == ("executing", None, ())


async def test_a_job_that_is_lost_at_the_commit_writes_nothing(run, conn, migrated):
    async def lose(callback_context) -> None:
        await conn.execute(f"UPDATE {migrated}.oban_jobs SET state = 'available'")
        await conn.execute(f"UPDATE {migrated}.oban_jobs SET queue = 'elsewhere'")

    seen = await run(agent("never", after_agent_callback=lose))
    assert (seen.job.state, seen.session, seen.job.errors) == ("available", None, ())


async def test_a_commit_that_fails_is_a_retry_that_replays_everything(
    run, conn, migrated
):
    await fail_commits(conn, migrated)
    seen = await run(agent(call("look"), "done"))
    assert seen.ended == {"retryable": 1, "completed": 1}
    assert (ran["look"], seen.count(2, "replayed")) == (1, 3)
    assert (len(seen.events), seen.result.attempts) == (4, 2)
    assert seen.result.steps["live_model_calls"] == 0


async def test_a_completed_job_that_runs_again_returns_its_result(run, conn, migrated):
    async with run.client(agent(call("look"), "done")) as jobs:
        job = await enqueue()
        await drain(jobs)
        first = await job.result(timeout=5)
        # As if the process had died between the commit and Oban's acknowledgement.
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET state = 'available', completed_at = NULL"
        )
        assert await drain(jobs) == {"completed": 1}
        seen = await run.seen(jobs, job, {})
    assert (ran["look"], seen.steps(2)) == (1, [])
    assert (seen.result.text, seen.result.attempts) == ("done", first.attempts)
    assert (len(seen.events), seen.job.state) == (4, "completed")


async def test_turns_that_land_together_all_land(run):
    def reply(request) -> object:
        text = request.contents[-1].parts[0].text
        return f"to {text}" if text else "done"

    def before_agent(callback_context) -> None:
        session = callback_context.session.id
        callback_context.state[f"app:{session}"] = 1
        callback_context.state[f"user:{session}"] = 2
        callback_context.state["mine"] = session

    mine = LlmAgent(
        name="a",
        model=ScriptedModel(replies=reply),
        before_agent_callback=before_agent,
    )
    async with run.client(mine, queues={"agents": 30}) as jobs:
        many = [
            await enqueue(f"{n}", session_id=f"s{n % 15}", ordering="none")
            for n in range(45)
        ]
        for job in many:
            await job.result(timeout=30)
        session = await jobs.sessions.get_session(**{**SESSION, "session_id": "s1"})
    assert {k: v for k, v in session.state.items() if k.startswith("app:")} == {
        f"app:s{n}": 1 for n in range(15)
    }
    assert sum(k.startswith("user:") for k in session.state) == 15
    assert sorted(texts(session)) == sorted(
        text for n in (1, 16, 31) for text in (f"{n}", f"to {n}")
    )


async def test_a_turn_that_cannot_land_does_not_harm_those_beside_it(
    run, conn, migrated
):
    await conn.execute(f"ALTER TABLE {migrated}.sessions ADD CHECK (id <> 'refused')")
    mine = LlmAgent(name="a", model=ScriptedModel(replies=lambda _: "done"))
    async with run.client(mine, queues={"agents": 20}):
        many = [await enqueue(f"{n}", session_id=f"s{n}") for n in range(20)]
        bad = await enqueue("bad", session_id="refused", max_attempts=1)
        for job in many:
            await job.result(timeout=30)
        with pytest.raises(JobFailedError, match="check constraint"):
            await bad.result(timeout=30)


async def test_equal_ids_under_two_app_names_are_two_sessions(run):
    async with run.client(agent("one", "two")) as jobs:
        await enqueue("hi")
        await enqueue("ho", app_name="other")
        assert await drain(jobs) == {"completed": 2}
        for app, said in (("app", "hi"), ("other", "ho")):
            named = {**SESSION, "app_name": app}
            session = await jobs.sessions.get_session(**named)
            assert texts(session)[0] == said


async def test_a_large_session_is_cut_as_its_run_config_says(run):
    for n in range(3):
        await run(agent(f"{n}"))
    model = ScriptedModel(replies=["last"])
    opts = {"get_session_config": {"num_recent_events": 2}}
    seen = await run(LlmAgent(name="a", model=model), message="go", runner_opts=opts)
    assert len(model.requests[0].contents) == 3
    assert len(seen.events) == 8


@pytest.mark.parametrize("code", ["SAFETY", "MAX_TOKENS", "MODEL_RETURNED_NO_CONTENT"])
async def test_an_error_code_is_an_outcome(run, code):
    blocked = LlmResponse(error_code=code, error_message="no")
    seen = await run(agent(blocked))
    assert seen.ended == {"completed": 1}
    assert (seen.result.error_code, seen.result.error_message) == (code, "no")
    assert seen.session.events[-1].error_code == code


async def test_an_error_code_may_be_tried_again(run):
    blocked = LlmResponse(error_code="SAFETY", error_message="no")
    seen = await run(
        agent(call("look"), blocked, "done"), adk_oban={"retry_error_codes": ["SAFETY"]}
    )
    assert seen.ended == {"retryable": 1, "completed": 1}
    assert (seen.result.text, seen.result.error_code) == ("done", None)
    assert seen.steps(2)[-1] == "model scripted live"
    assert (ran["look"], seen.count(2, "replayed")) == (1, 2)
    assert "the model ended with SAFETY: no" in seen.error


async def test_after_the_last_attempt_an_error_code_is_the_outcome(run):
    blocked = LlmResponse(error_code="SAFETY", error_message="no")
    seen = await run(agent(*[blocked] * 3), adk_oban={"retry_error_codes": ["SAFETY"]})
    assert seen.ended == {"retryable": 2, "completed": 1}
    assert (seen.result.error_code, seen.result.attempts) == ("SAFETY", 3)


async def test_an_end_without_a_word_is_an_error(run):
    class Silent(BaseAgent):
        async def _run_async_impl(self, ctx):
            return
            yield

    seen = await run(Silent(name="a"), max_attempts=1)
    assert seen.job.state == "discarded"
    assert "agent 'a' stopped without an answer" in seen.error
    assert seen.session is None


async def test_a_call_that_nobody_answered_is_an_error(run):
    class Halves(BaseAgent):
        async def _run_async_impl(self, ctx):
            content = types.Content(role="model", parts=[call("look")])
            yield Event(author="a", content=content, invocation_id=ctx.invocation_id)

    seen = await run(Halves(name="a"), max_attempts=1)
    assert "its last event is a call of ['look']" in seen.error


async def test_a_change_of_state_alone_is_an_outcome(run):
    class Sets(BaseAgent):
        async def _run_async_impl(self, ctx):
            actions = EventActions(state_delta={"k": 1})
            yield Event(author="a", actions=actions, invocation_id=ctx.invocation_id)

    seen = await run(Sets(name="a"))
    assert (seen.ended, seen.state, seen.result.text) == (
        {"completed": 1},
        {"k": 1},
        "",
    )


async def test_an_attempt_that_takes_too_long_is_tried_again(run):
    async def hang() -> str:
        """Hang the first time."""
        if attempt() == 1:
            await asyncio.Event().wait()
        return "ok"

    seen = await run(agent(call("hang"), "done", tools=[hang]), timeout=0.5)
    assert seen.ended == {"retryable": 1, "completed": 1}
    assert "the attempt has not ended within 0.5 s" in seen.error
    assert seen.steps(2)[0] == "model scripted replayed"


async def test_a_tool_that_takes_too_long_has_failed(run):
    async def hang() -> str:
        """Hang the first time."""
        if attempt() == 1:
            await asyncio.Event().wait()
        return "ok"

    seen = await run(
        agent(call("hang"), "done", tools=[hang]), adk_oban={"tool_timeout": 0.1}
    )
    assert "tool 'hang' has not returned within 0.1 s" in seen.error
    assert seen.result.text == "done"


async def test_a_limit_of_one_tool_does_not_hold_for_others(run):
    async def slow() -> str:
        """Take a while."""
        for _ in range(5):
            await asyncio.sleep(0)
        return "ok"

    options = {"tool_timeout": {"other": 0.000001}}
    seen = await run(agent(call("slow"), "done", tools=[slow]), adk_oban=options)
    assert seen.ended == {"completed": 1}


async def test_the_agent_sees_its_own_events_as_it_runs(run):
    seen_events: list[int] = []

    def before_model(callback_context, llm_request) -> None:
        seen_events.append(len(callback_context.session.events))

    await run(
        agent(call("look"), call("look"), "done", before_model_callback=before_model)
    )
    assert seen_events == [1, 3, 5]


async def test_a_job_whose_row_is_gone_writes_nothing(run, conn, migrated):
    async with run.client(agent("never")) as jobs:
        job = await enqueue()
        row = await jobs.oban.get_job(job.id)
        await conn.execute(f"DELETE FROM {migrated}.oban_jobs")
        row.extra["adk_oban"] = _oban.services("Oban")
        assert await AgentWorker().process(row) is None
        assert await jobs.sessions.get_session(**SESSION) is None
