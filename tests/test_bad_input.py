"""What is wrong is told clearly, at once, and nothing is lost by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from google.adk.agents import LlmAgent, ParallelAgent
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.tool_context import ToolContext

from adk_oban import _oban
from adk_oban.testing import ScriptedModel, call, drain
from attempts import Runs, enqueue

ran: Counter[str] = Counter()

pytestmark = [
    pytest.mark.filterwarnings("ignore:ParallelAgent is deprecated"),
    pytest.mark.filterwarnings("ignore:.*plugins.*deprecated"),
]


@pytest.fixture
def run(dsn, migrated):
    ran.clear()
    return Runs(dsn, migrated)


async def look() -> str:
    """Look."""
    ran["look"] += 1
    return "seen"


def agent(*replies: Any, name: str = "a", tools: Any = (look,)) -> LlmAgent:
    model = ScriptedModel(replies=[*replies])
    return LlmAgent(name=name, model=model, tools=[*tools])


def holds_itself() -> dict:
    value: dict = {}
    value["self"] = value
    return value


def deep() -> list:
    value: list = []
    for _ in range(5_000):
        value = [value]
    return value


NO_JSON = {
    "object": object,
    "function": lambda: print,
    "nested": lambda: {"a": [object()]},
    "event": asyncio.Event,
    "holds itself": holds_itself,
    "deep": deep,
}


@pytest.mark.parametrize("make", NO_JSON.values(), ids=NO_JSON)
async def test_a_tool_that_returns_no_json_ends_the_job_at_once(run, make):
    async def give(tool_context: ToolContext) -> Any:
        """Give it."""
        ran["give"] += 1
        tool_context.state["k"] = 1
        return make()

    await run(agent("one"))
    seen = await run(agent(call("give"), "x", "x", tools=[give]), message="again")
    assert (seen.ended, ran["give"]) == ({"cancelled": 1}, 1)
    assert "tool 'give' of agent 'a' returned what cannot be recorded" in seen.error
    assert (len(seen.events), seen.state) == (2, {})


async def test_that_ends_it_in_parallel_agents_too(run):
    async def give() -> Any:
        """Give it."""
        ran["give"] += 1
        return object()

    both = [agent(call("give"), "x", name=name, tools=[give]) for name in "xy"]
    seen = await run(ParallelAgent(name="p", sub_agents=both))
    assert seen.ended == {"cancelled": 1}
    assert "tool 'give' of agent" in seen.error
    assert seen.session is None


async def test_that_ends_it_below_an_agent_tool_too(run):
    async def give() -> Any:
        """Give it."""
        ran["give"] += 1
        return object()

    inner = agent(call("give"), "x", name="inner", tools=[give])
    outer = agent(call("inner", request="go"), "x", tools=[AgentTool(inner)])
    seen = await run(outer)
    assert (seen.ended, ran["give"]) == ({"cancelled": 1}, 1)
    assert "tool 'give' of agent 'inner'" in seen.error


async def test_no_callback_makes_an_answer_of_it(run):
    async def give() -> Any:
        """Give it."""
        ran["give"] += 1
        return object()

    def on_error(tool, args, tool_context, error) -> dict:
        return {"error": str(error)}

    mine = agent(call("give"), "x", tools=[give])
    mine.on_tool_error_callback = on_error
    seen = await run(mine)
    assert seen.ended == {"cancelled": 1}
    assert "tool 'give' of agent 'a'" in seen.error


async def test_an_agent_that_calls_itself_for_ever_is_ended(run):
    forever = LlmAgent(
        name="a", model=ScriptedModel(replies=lambda _: call("look")), tools=[look]
    )
    seen = await run(forever, runner_opts={"max_llm_calls": 5})
    assert seen.ended == {"cancelled": 1}
    assert "llm calls limit of `5` exceeded" in seen.error
    assert "runner_opts.max_llm_calls" in seen.error
    assert (ran["look"], seen.session) == (5, None)


async def test_it_is_ended_in_parallel_agents_too(run):
    def forever(name: str) -> LlmAgent:
        model = ScriptedModel(replies=lambda _: call("look"))
        return LlmAgent(name=name, model=model, tools=[look])

    both = ParallelAgent(name="p", sub_agents=[forever("x"), forever("y")])
    seen = await run(both, runner_opts={"max_llm_calls": 5})
    assert seen.ended == {"cancelled": 1}
    assert "llm calls limit" in seen.error


async def test_it_is_ended_below_an_agent_tool_too(run):
    inner = LlmAgent(
        name="inner", model=ScriptedModel(replies=lambda _: call("look")), tools=[look]
    )
    outer = agent(call("inner", request="go"), "x", tools=[AgentTool(inner)])
    seen = await run(outer, runner_opts={"max_llm_calls": 5})
    assert seen.ended == {"cancelled": 1}
    assert "llm calls limit" in seen.error


async def test_steps_of_another_version_are_refused_and_nothing_is_lost(
    run, conn, migrated
):
    async with run.client(agent(call("look"), OSError("down"), "done")) as jobs:
        job = await enqueue(max_attempts=2)
        assert await _oban.run_next(jobs.oban, "agents") == "retryable"
        await conn.execute(f"UPDATE {migrated}.adk_oban_steps SET version = 3")
        await drain_twice(jobs)
        waits = await job.reload()
        assert waits.state in ("scheduled", "retryable")
        assert (waits.attempt, ran["look"]) == (1, 1)

        await conn.execute(f"UPDATE {migrated}.adk_oban_steps SET version = 1")
        await drain(jobs)
        seen = await run.seen(jobs, job, {})
    assert seen.result.text == "done"
    assert (ran["look"], seen.count(seen.job.attempt, "replayed")) == (1, 2)


async def drain_twice(jobs) -> None:
    for _ in range(2):
        await drain(jobs, with_scheduled=False)


async def test_a_job_of_another_version_does_not_harm_those_beside_it(
    run, conn, migrated
):
    mine = LlmAgent(name="a", model=ScriptedModel(replies=lambda _: "done"))
    async with run.client(mine, queues={"agents": 20}) as jobs:
        await jobs.oban.pause_queue("agents")
        many = [await enqueue(f"{n}", session_id=f"s{n}") for n in range(10)]
        await conn.execute(
            f"INSERT INTO {migrated}.adk_oban_steps (job_id, segment, key, ordinal, "
            "version, kind, name, agent, branch, state, parts, attempt, began_at, "
            "recorded_at) VALUES (%s, 0, 'k', 0, 99, 'model', 'm', 'a', '', 'done', "
            "'{}', 1, now(), now())",
            [many[0].id],
        )
        await jobs.oban.resume_queue("agents")
        for job in many[1:]:
            await job.result(timeout=30)


async def test_a_column_of_a_newer_version_does_no_harm(run, conn, migrated):
    await conn.execute(f"ALTER TABLE {migrated}.adk_oban_steps ADD COLUMN newer int")
    seen = await run(agent(call("look"), OSError("down"), "done"))
    assert seen.ended == {"retryable": 1, "completed": 1}
    assert seen.count(2, "replayed") == 2


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"ordering": "strict"}, ValueError, "ordering must be one of"),
        ({"on_cancel": "maybe"}, ValueError, "on_cancel must be one of"),
        ({"timeout": 0}, ValueError, "timeout must be more than 0"),
        ({"timeout": "1"}, TypeError, "timeout must be seconds"),
        ({"timeout": float("inf")}, ValueError, "timeout must be more than 0"),
        ({"ordering": 1}, TypeError, "ordering must be one of"),
    ],
    ids=str,
)
async def test_a_wrong_option_of_a_job_is_refused(run, options, error, match):
    async with run.client(agent("x")):
        with pytest.raises(error, match=match):
            await enqueue(**options)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"tool_timeout": 0}, ValueError, "tool_timeout must be more than 0"),
        ({"tool_timeout": {"x": -1}}, ValueError, "tool_timeout must be more than 0"),
        ({"model_timeout": 0}, ValueError, "model_timeout must be more than 0"),
        ({"model_timeout": {"x": -1}}, ValueError, "model_timeout must be more than 0"),
        ({"job_timeout": -1}, ValueError, "job_timeout must be more than 0"),
        ({"retry_error_codes": "SAFETY"}, TypeError, "must be a list of strings"),
    ],
    ids=str,
)
async def test_a_wrong_option_of_adk_oban_is_refused(run, options, error, match):
    with pytest.raises(error, match=match):
        async with run.client(agent("x"), **options):
            raise AssertionError("it has started")
