"""AgentWorker: the origin's args, defaults and options, and what comes of a job."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig
from google.adk.apps import App
from google.adk.plugins.base_plugin import BasePlugin
from google.genai import types
from oban import Job
from psycopg.types.json import Jsonb

import sample_agents
from adk_oban import AdkOban, AgentWorker
from adk_oban.errors import JobFailedError, UnknownAgentError
from adk_oban.testing import ScriptedModel, call, drain

ARGS = {"agent_module": "helper", "user_id": "u", "message": "hi"}


async def count_jobs(conn, prefix: str) -> int:
    row = await (
        await conn.execute(f"SELECT count(*) FROM {prefix}.oban_jobs")
    ).fetchone()
    return row[0]


async def insert_row(conn, prefix: str, worker: str, args: dict, **more) -> int:
    """Insert a row as another program would: by SQL alone."""
    values = {"queue": "agents", "max_attempts": 3, **more}
    row = await (
        await conn.execute(
            f"INSERT INTO {prefix}.oban_jobs (worker, args, queue, max_attempts) "
            "VALUES (%s, %s, %s, %s) RETURNING id",
            (worker, Jsonb(args), values["queue"], values["max_attempts"]),
        )
    ).fetchone()
    return row[0]


async def test_an_enqueued_job_has_the_origins_defaults(client):
    job = await AgentWorker.enqueue("helper", "user-123", "Summarize this")

    assert (job.queue, job.max_attempts, job.priority) == ("agents", 3, 2)
    assert job.state == "available"
    assert re.fullmatch(r"oban-[A-Za-z0-9_-]{11}", job.session_id)
    assert job.args == {
        "agent_module": "helper",
        "user_id": "user-123",
        "message": "Summarize this",
        "app_name": "adk_oban",
        "session_id": job.session_id,
    }


async def test_a_job_answers_and_its_turn_stands_in_the_session(client):
    job = await AgentWorker.enqueue("helper", "u", "hello", session_id="s")
    assert await drain(client) == {"completed": 1}

    result = await job.result(timeout=5)
    assert result.text == "You said: hello"
    assert (result.attempts, result.event_count, result.model_calls) == (1, 1, 1)
    session = await client.sessions.get_session(
        app_name="adk_oban", user_id="u", session_id="s"
    )
    assert [event.author for event in session.events] == ["user", "helper"]
    assert result.events == (session.events[1],)
    assert (await job.reload()).state == "completed"


async def test_every_option_reaches_the_row(client):
    at = datetime(2030, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2)))
    job = await AgentWorker.enqueue(
        "helper",
        "u",
        "hi",
        app_name="app",
        session_id="s",
        queue="agents_critical",
        max_attempts=7,
        priority=0,
        scheduled_at=at,
        runner_opts={"max_llm_calls": 3},
        tags=["Mail", "urgent"],
        meta={"order": 7},
    )
    row = await client.oban.get_job(job.id)

    assert (row.queue, row.max_attempts, row.priority) == ("agents_critical", 7, 0)
    assert (row.state, row.scheduled_at) == ("scheduled", at.astimezone(UTC))
    assert (row.tags, row.meta) == (["mail", "urgent"], {"order": 7})
    assert row.args["runner_opts"] == {"max_llm_calls": 3}
    assert (row.args["app_name"], row.args["session_id"]) == ("app", "s")


@pytest.mark.parametrize("delay", [3600, 3600.5, timedelta(hours=1)])
async def test_schedule_in_takes_seconds_or_a_timedelta(client, delay):
    job = await AgentWorker.enqueue("helper", "u", "hi", schedule_in=delay)

    late = job.scheduled_at - datetime.now(UTC)
    assert timedelta(minutes=59) < late <= timedelta(hours=1, seconds=1)
    assert job.state == "scheduled"


async def test_new_makes_a_job_that_oban_inserts(client):
    job = AgentWorker.new(ARGS, priority=9, schedule_in=60)
    assert isinstance(job, Job)
    assert job.id is None

    await client.oban.enqueue(job)
    many = [AgentWorker.new(ARGS), AgentWorker.new(ARGS)]
    await client.oban.enqueue_many(many)
    assert await drain(client) == {"completed": 3}


async def test_conn_enqueues_in_the_callers_own_transaction(client, conn, migrated):
    with pytest.raises(RuntimeError, match="rolled back"):
        async with conn.transaction():
            await AgentWorker.enqueue("helper", "u", "hi", conn=conn)
            raise RuntimeError("rolled back")
    assert await count_jobs(conn, migrated) == 0

    async with conn.transaction():
        await AgentWorker.enqueue("helper", "u", "hi", conn=conn)
    assert await count_jobs(conn, migrated) == 1


async def test_a_message_may_be_content_of_several_parts(dsn, migrated):
    model = ScriptedModel(replies=["seen"])
    agent = LlmAgent(name="a", model=model)
    content = types.Content(
        role="user",
        parts=[
            types.Part(text="Look:"),
            types.Part(inline_data=types.Blob(data=b"\x00\xff", mime_type="image/png")),
        ],
    )
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        await AgentWorker.enqueue("a", "u", content)
        await drain(jobs)

    parts = model.requests[0].contents[-1].parts
    assert parts[0].text == "Look:"
    assert parts[1].inline_data.data == b"\x00\xff"


@pytest.mark.parametrize(
    "agent",
    ["sample_agents:named", "short", sample_agents.named, {"model": "gemini-x"}],
)
async def test_an_agent_is_named_in_any_way_that_is_registered(
    dsn, migrated, agent: object
):
    agents = ["sample_agents", {"short": sample_agents.named}]
    async with AdkOban(dsn, prefix=migrated, agents=agents):
        job = await AgentWorker.enqueue(agent, "u", "hi")

    expected = {"agent_config": agent} if isinstance(agent, dict) else None
    assert job.args.get("agent_config") == (expected or {}).get("agent_config")
    if expected is None:
        assert job.agent in ("sample_agents:named", "short")


async def test_a_module_with_agent_is_named_by_the_module(dsn, migrated):
    async with AdkOban(dsn, prefix=migrated, agents=[sample_agents]) as jobs:
        job = await AgentWorker.enqueue(sample_agents, "u", "hi")
        await drain(jobs)
        assert (await job.result(timeout=5)).text.startswith("made ")


async def test_runner_opts_reach_adk_as_its_run_config(dsn, migrated):
    calls = [call("nothing")] * 5
    agent = LlmAgent(name="a", model=ScriptedModel(replies=calls), tools=[nothing])
    opts = RunConfig(max_llm_calls=2)
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue(
            "a", "u", "hi", runner_opts=opts, max_attempts=1
        )
        await drain(jobs)
        with pytest.raises(JobFailedError, match="Max number of llm calls"):
            await job.result(timeout=5)


def nothing() -> str:
    """Do nothing."""
    return "nothing"


async def test_a_failing_job_is_retried_until_it_answers(dsn, migrated):
    replies = [ConnectionError("one"), ConnectionError("two"), "at last"]
    agent = LlmAgent(name="a", model=ScriptedModel(replies=replies))
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        assert await drain(jobs) == {"retryable": 2, "completed": 1}

        result = await job.result(timeout=5)
        assert (result.text, result.attempts) == ("at last", 3)
        errors = (await job.reload()).errors
        assert [e["attempt"] for e in errors] == [1, 2]
        assert "ConnectionError: two" in errors[1]["error"]


async def test_a_job_that_always_fails_is_discarded_with_its_last_error(dsn, migrated):
    agent = LlmAgent(
        name="a", model=ScriptedModel(replies=lambda _: ConnectionError("still down"))
    )
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi", max_attempts=2)
        assert await drain(jobs) == {"retryable": 1, "discarded": 1}

        with pytest.raises(JobFailedError, match="ConnectionError: still down") as e:
            await job.result(timeout=5)
        assert (e.value.job_id, e.value.state) == (job.id, "discarded")


async def test_backoff_is_obans_unless_one_is_given(dsn, migrated):
    down = LlmAgent(name="a", model=ScriptedModel(replies=lambda _: OSError("down")))

    async def wait_after_failure(backoff) -> float:
        options = {"prefix": migrated, "agents": {"a": down}, "backoff": backoff}
        async with AdkOban(dsn, **options) as jobs:
            job = await AgentWorker.enqueue("a", "u", "hi", max_attempts=2)
            await drain(jobs, with_scheduled=False)
            again = await job.reload()
            return (again.scheduled_at - again.attempted_at).total_seconds()

    assert 17 <= await wait_after_failure(None) <= 19.5
    assert 89.5 <= await wait_after_failure(lambda job: 88.5 + job.attempt) <= 91
    assert 17 <= await wait_after_failure(lambda job: 1 / 0) <= 19.5


async def test_an_apps_plugins_and_name_are_used(dsn, migrated):
    class Shout(BasePlugin):
        async def after_model_callback(self, *, callback_context, llm_response):
            for part in llm_response.content.parts:
                part.text = part.text.upper()

    agent = LlmAgent(name="a", model=ScriptedModel(replies=["quiet"]))
    app = App(name="my_app", root_agent=agent, plugins=[Shout(name="shout")])
    async with AdkOban(dsn, prefix=migrated, agents={"a": app}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        result = await job.result(timeout=5)

    assert result.text == "QUIET"
    assert (job.args["app_name"], result.app_name) == ("my_app", "my_app")
    assert len(app.plugins) == 1


@pytest.mark.parametrize(
    "worker", ["ADK.Oban.AgentWorker", "adk_oban.worker.AgentWorker"]
)
async def test_a_row_that_another_program_inserted_runs(client, conn, migrated, worker):
    id = await insert_row(conn, migrated, worker, ARGS)
    assert await drain(client) == {"completed": 1}

    result = await client.get_result(id)
    assert result.text == "You said: hi"
    assert (result.app_name, result.session_id) == ("adk_oban", f"oban-{id}")


async def test_a_row_with_all_keys_of_the_origin_runs(client, conn, migrated):
    args = {
        **ARGS,
        "session_id": "session-456",
        "app_name": "their_app",
        "runner_opts": {"max_llm_calls": 5},
    }
    id = await insert_row(conn, migrated, "ADK.Oban.AgentWorker", args)
    await drain(client)

    result = await client.get_result(id)
    assert (result.app_name, result.session_id) == ("their_app", "session-456")


BAD = [
    ({"user_id": None}, ValueError, "user_id must not be missing"),
    ({"user_id": ""}, ValueError, "user_id must not be missing or empty, got ''"),
    ({"user_id": "  "}, ValueError, "user_id must not be blank"),
    ({"user_id": 42}, TypeError, "user_id must be a string, got 42"),
    ({"user_id": "u" * 129}, ValueError, "user_id must be at most 128 characters"),
    ({"user_id": "a\0b"}, ValueError, "user_id holds a NUL"),
    ({"message": None}, ValueError, "message must not be missing"),
    ({"message": ""}, ValueError, "message must not be missing or empty"),
    ({"message": " \n"}, ValueError, "message must not be blank"),
    ({"message": 42}, TypeError, "message must be a string or an ADK Content"),
    ({"message": "a\0b"}, ValueError, r"message holds a NUL character.*'a\\x00b'"),
    ({"message": "\ud800"}, ValueError, "message holds a lone surrogate"),
    ({"message": "x" * 10_000_000}, ValueError, "message must be at most 8388608 b"),
    ({"message": {"parts": []}}, ValueError, "at least one part"),
    ({"message": {"parts": [{"colour": 1}]}}, ValueError, "message.parts.0.colour"),
    ({"message": {"parts": object()}}, ValueError, "message cannot be encoded"),
    ({"app_name": ""}, ValueError, "app_name must not be missing or empty"),
    ({"session_id": "s" * 129}, ValueError, "session_id must be at most 128"),
    ({"runner_opts": {"colour": 1}}, ValueError, "runner_opts.colour"),
    ({"runner_opts": {"max_llm_calls": "x"}}, ValueError, "runner_opts.max_llm_calls"),
    ({"runner_opts": [1]}, TypeError, "runner_opts must be a mapping"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD)
async def test_bad_args_are_refused_at_the_call(
    client, conn, migrated, bad, error, message
):
    given = {"user_id": "u", "message": "hi", **bad}
    with pytest.raises(error, match=message) as caught:
        await AgentWorker.enqueue("helper", **given)

    assert len(str(caught.value)) < 500
    assert await count_jobs(conn, migrated) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"priority": -1}, ValueError, "priority must be 0 to 9, got -1"),
        ({"priority": 10}, ValueError, "priority must be 0 to 9, got 10"),
        ({"priority": True}, TypeError, "priority must be a whole number"),
        ({"max_attempts": 0}, ValueError, "max_attempts must be 1 to 32767, got 0"),
        ({"queue": " "}, ValueError, "queue must not be blank"),
        ({"queue": 1}, TypeError, "queue must be a string"),
        ({"scheduled_at": datetime(2030, 1, 1)}, ValueError, "naive"),
        ({"scheduled_at": "tomorrow"}, TypeError, "scheduled_at must be a datetime"),
        ({"schedule_in": -1}, ValueError, "schedule_in must be 0 seconds or more"),
        ({"schedule_in": float("nan")}, ValueError, "schedule_in"),
        ({"schedule_in": 1e12}, ValueError, "year 10000"),
        ({"schedule_in": "1h"}, TypeError, "schedule_in must be seconds"),
        (
            {"schedule_in": 1, "scheduled_at": datetime.now(UTC)},
            ValueError,
            "either scheduled_at or schedule_in",
        ),
        ({"tags": "one"}, TypeError, "tags must be a list"),
        ({"tags": [1]}, TypeError, "tags must hold strings, got 1"),
        ({"meta": [1]}, TypeError, "meta must be a mapping"),
        ({"meta": {"a": {1}}}, ValueError, "meta cannot be encoded as JSON"),
        ({"meta": {"a": float("inf")}}, ValueError, "meta cannot be encoded as JSON"),
        ({"colour": "red"}, TypeError, r"unknown options \['colour'\]"),
    ],
)
async def test_bad_options_are_refused_at_the_call(
    client, conn, migrated, options, error, message
):
    with pytest.raises(error, match=message):
        await AgentWorker.enqueue("helper", "u", "hi", **options)
    assert await count_jobs(conn, migrated) == 0


@pytest.mark.parametrize("agent", ["nobody", "os:system", object()])
async def test_an_unknown_agent_is_refused_at_the_call(client, conn, migrated, agent):
    with pytest.raises((UnknownAgentError, TypeError), match="is not registered"):
        await AgentWorker.enqueue(agent, "u", "hi")
    assert await count_jobs(conn, migrated) == 0


async def test_a_client_without_agents_leaves_the_check_to_the_worker(dsn, migrated):
    async with AdkOban(dsn, prefix=migrated) as jobs:
        job = await AgentWorker.enqueue("helper", "u", "hi")
        await drain(jobs)
        with pytest.raises(JobFailedError, match="'helper' is not registered"):
            await job.result(timeout=5)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "either agent_module or agent_config"),
        ({**ARGS, "agent_module": "nobody"}, "'nobody' is not registered"),
        ({**ARGS, "agent_module": "os:system"}, "'os:system' is not registered"),
        ({"agent_module": "helper", "message": "hi"}, "user_id must not be missing"),
        ({"agent_module": "helper", "user_id": "u"}, "message must not be missing"),
        ({**ARGS, "colour": 1}, r"unknown keys \['colour'\]"),
        ({**ARGS, "agent_config": {"model": "m"}}, "either agent_module or"),
        ({**ARGS, "user_id": ["u"]}, "user_id must be a string"),
        (
            {"agent_config": {"model": 1}, "user_id": "u", "message": "hi"},
            "agent_config.model",
        ),
        ({**ARGS, "runner_opts": {"x": 1}}, "runner_opts.x"),
    ],
)
async def test_a_bad_row_ends_with_a_message_and_the_worker_goes_on(
    client, conn, migrated, args, message
):
    id = await insert_row(conn, migrated, "ADK.Oban.AgentWorker", args)
    good = await AgentWorker.enqueue("helper", "u", "hi")
    assert await drain(client) == {"cancelled": 1, "completed": 1}

    job = await client.get_job(id)
    assert (job.state, job.attempt) == ("cancelled", 1)
    with pytest.raises(JobFailedError, match=message):
        await job.result(timeout=5)
    assert (await good.result(timeout=5)).text == "You said: hi"


async def test_args_that_are_no_object_end_with_a_message(client, conn, migrated):
    await insert_row(conn, migrated, "ADK.Oban.AgentWorker", [1, 2])

    assert await drain(client) == {"cancelled": 1}


async def test_enqueueing_without_a_running_adk_oban_says_what_to_do():
    with pytest.raises(RuntimeError, match="inside 'async with AdkOban"):
        await AgentWorker.enqueue("helper", "u", "hi", oban="nobody")
