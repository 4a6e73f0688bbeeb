"""The user's own code runs on a replay as live, and knows nothing of the journal."""

from __future__ import annotations

from collections import Counter

import pytest
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.code_executors import BaseCodeExecutor
from google.adk.code_executors.code_execution_utils import CodeExecutionResult
from google.adk.models.llm_response import LlmResponse
from google.adk.planners import BasePlanner, PlanReActPlanner
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import InMemoryRunner
from google.genai import types
from pydantic import BaseModel

from adk_oban.testing import ScriptedModel, call, drain
from attempts import Runs, attempt, enqueue, in_order

called: Counter[tuple[int, str]] = Counter()


@pytest.fixture
def run(dsn, migrated):
    called.clear()
    return Runs(dsn, migrated)


def note(what: str):
    """Return a callback that only counts, for each attempt."""

    def callback(*_: object, **__: object) -> None:
        called[attempt(), what] += 1

    return callback


def anote(what: str):
    """Return a method that does, for plugins."""

    async def callback(*_: object, **__: object) -> None:
        called[attempt(), what] += 1

    return callback


def counts(number: int) -> dict[str, int]:
    return {what: n for (a, what), n in called.items() if a == number}


async def look(x: str = "") -> str:
    """Look."""
    return f"seen {x}"


def replies() -> list:
    return [call("look", x="1"), call("look", x="2"), OSError("down"), "done"]


async def as_live(run: Runs, make) -> None:
    """Check that the attempt with the replay does all that an only attempt does."""
    smooth = [reply for reply in replies() if not isinstance(reply, OSError)]
    live = await run(make(ScriptedModel(replies=smooth)), session_id="live")
    expected = counts(1)
    called.clear()
    replay = await run(make(ScriptedModel(replies=replies())), session_id="replay")
    assert replay.ended == {"retryable": 1, "completed": 1}
    assert replay.count(2, "replayed") == 4
    assert counts(2) == expected
    assert replay.events == live.events
    assert replay.state == live.state


CALLBACKS = ["before_agent", "after_agent", "before_model", "after_model"]
CALLBACKS += ["before_tool", "after_tool"]


async def test_callbacks_are_called_as_live(run):
    def make(model) -> LlmAgent:
        callbacks = {f"{name}_callback": note(name) for name in CALLBACKS}
        return LlmAgent(name="a", model=model, tools=[look], **callbacks)

    await as_live(run, make)
    assert counts(2) == {
        "before_agent": 1,
        "after_agent": 1,
        "before_model": 3,
        "after_model": 3,
        "before_tool": 2,
        "after_tool": 2,
    }


async def test_plugins_are_called_as_live(run):
    hooks = [f"{name}_callback" for name in CALLBACKS]
    hooks += ["on_user_message_callback", "before_run_callback", "after_run_callback"]
    hooks += ["on_event_callback"]
    own = {hook: anote(hook) for hook in hooks}

    def make(model) -> App:
        plugin = type("Counting", (BasePlugin,), own)(name="counting")
        agent = LlmAgent(name="a", model=model, tools=[look])
        return App(name="app", root_agent=agent, plugins=[plugin])

    await as_live(run, make)
    assert set(counts(2)) == set(hooks)


async def test_what_callbacks_change_is_changed_on_a_replay(run):
    def before_model(callback_context, llm_request) -> None:
        callback_context.state["asked"] = callback_context.state.get("asked", 0) + 1
        llm_request.append_instructions([f"Call {callback_context.state['asked']}"])

    def after_model(callback_context, llm_response) -> LlmResponse | None:
        if llm_response.content.parts[0].text is None:
            return None
        content = types.Content(role="model", parts=[types.Part(text="other")])
        return LlmResponse(content=content)

    def after_tool(tool, args, tool_context, tool_response) -> dict:
        tool_context.state["tools"] = tool_context.state.get("tools", 0) + 1
        return {"changed": tool_response}

    def make(model) -> LlmAgent:
        return LlmAgent(
            name="a",
            model=model,
            tools=[look],
            before_model_callback=before_model,
            after_model_callback=after_model,
            after_tool_callback=after_tool,
        )

    await as_live(run, make)


async def test_a_callback_that_answers_for_the_model_does_so_on_a_replay(run):
    def before_model(callback_context, llm_request) -> LlmResponse | None:
        called[attempt(), "before"] += 1
        if called[attempt(), "before"] != 2:
            return None
        return LlmResponse(
            content=types.Content(role="model", parts=[call("look", x="mine")])
        )

    def make(model) -> LlmAgent:
        return LlmAgent(
            name="a", model=model, tools=[look], before_model_callback=before_model
        )

    model = ScriptedModel(replies=[call("look"), OSError("down"), "done"])
    seen = await run(make(model))
    assert counts(1) == counts(2) == {"before": 3}
    assert seen.steps(2) == [
        "model scripted replayed",
        "tool look replayed",
        "tool look replayed",
        "model scripted live",
    ]


async def test_a_callback_that_answers_for_a_tool_does_so_on_a_replay(run):
    def before_tool(tool, args, tool_context) -> dict | None:
        called[attempt(), "before"] += 1
        return {"mine": args["x"]} if args["x"] == "1" else None

    def make(model) -> LlmAgent:
        return LlmAgent(
            name="a", model=model, tools=[look], before_tool_callback=before_tool
        )

    seen = await run(make(ScriptedModel(replies=replies())))
    assert counts(1) == counts(2) == {"before": 2}
    assert seen.count(2, "tool look replayed") == 1


async def test_an_error_of_a_model_that_the_agent_lived_with_is_lived_with(run):
    def on_error(callback_context, llm_request, error) -> LlmResponse | None:
        called[attempt(), "error"] += 1
        if not isinstance(error, LookupError):
            return None
        part = call("look", x="instead")
        return LlmResponse(content=types.Content(role="model", parts=[part]))

    model = ScriptedModel(replies=[LookupError("no"), "one", OSError("down"), "two"])
    first = LlmAgent(
        name="f", model=model, tools=[look], on_model_error_callback=on_error
    )
    second = LlmAgent(name="s", model=model)
    seen = await run(in_order(first, second))
    assert (counts(1), counts(2)) == ({"error": 1}, {"error": 1})
    assert seen.count(2, "model scripted replayed") == 2
    assert len(model.requests) == 4


async def test_planners_plan_as_live(run):
    class Planner(BasePlanner):
        def build_planning_instruction(self, readonly_context, llm_request) -> str:
            called[attempt(), "plan"] += 1
            return "Plan."

        def process_planning_response(self, callback_context, response_parts):
            called[attempt(), "process"] += 1
            return None

    await as_live(
        run, lambda m: LlmAgent(name="a", model=m, tools=[look], planner=Planner())
    )
    called.clear()
    react = PlanReActPlanner()
    await as_live(
        run, lambda m: LlmAgent(name="a", model=m, tools=[look], planner=react)
    )


async def test_instruction_providers_are_asked_as_live(run):
    def instruction(context) -> str:
        called[attempt(), "asked"] += 1
        return f"You know {sorted(context.state)}."

    def make(model) -> LlmAgent:
        return LlmAgent(name="a", model=model, tools=[look], instruction=instruction)

    await as_live(run, make)
    assert counts(2) == {"asked": 3}


async def test_an_output_schema_holds_on_a_replay(run, conn, migrated):
    class Sum(BaseModel):
        total: int

    def make(model) -> LlmAgent:
        return LlmAgent(
            name="a", model=model, output_schema=Sum, tools=[look], output_key="sum"
        )

    answer = call("set_model_response", total=3)
    model = ScriptedModel(replies=[call("look"), answer, OSError("down"), "told"])
    last = LlmAgent(name="last", model=model)
    seen = await run(in_order(make(model), last))
    assert seen.count(2, "replayed") == 3
    assert seen.state["sum"] == {"total": 3}


async def test_code_executors_execute_as_live(run):
    class Executor(BaseCodeExecutor):
        def execute_code(self, invocation_context, code_execution_input):
            called[attempt(), code_execution_input.code.strip()] += 1
            return CodeExecutionResult(stdout="3")

    model = ScriptedModel(
        replies=["```python\n1 + 2\n```", OSError("down"), "It is 3."]
    )
    agent = LlmAgent(name="a", model=model, code_executor=Executor())
    seen = await run(agent)
    assert counts(1) == counts(2) == {"1 + 2": 1}
    assert seen.steps(2) == ["model scripted replayed", "model scripted live"]


async def test_the_limit_of_model_calls_counts_replayed_ones(run):
    replies = [call("look"), OSError("down"), call("look"), call("look"), "never"]
    agent = LlmAgent(name="a", model=ScriptedModel(replies=replies), tools=[look])
    seen = await run(agent, runner_opts={"max_llm_calls": 3})
    assert seen.ended == {"retryable": 1, "cancelled": 1}
    assert seen.count(2, "model scripted live") == 2


async def test_the_agent_is_not_touched(run):
    callback = note("before")
    agent = LlmAgent(
        name="a",
        model=ScriptedModel(replies=["one", "two"]),
        tools=[look],
        before_model_callback=callback,
    )
    before = dict(agent)
    await run(agent)
    assert dict(agent) == before
    assert (agent.tools, agent.before_model_callback) == ([look], callback)


async def test_one_agent_runs_in_many_jobs_at_once_and_outside(run):
    def reply(request) -> object:
        parts = [p for content in request.contents for p in content.parts]
        asked = parts[0].text
        answers = [p for p in parts if p.function_response]
        return f"done {asked}" if answers else call("look", x=asked)

    agent = LlmAgent(name="a", model=ScriptedModel(replies=reply), tools=[look])
    async with run.client(agent, queues={"agents": 20}):
        many = [await enqueue(f"m{n}", session_id=f"s{n}") for n in range(40)]
        runner = InMemoryRunner(agent=agent, app_name="app")
        events = await runner.run_debug("by hand", quiet=True)
        texts = [(await job.result(timeout=30)).text for job in many]
    assert texts == [f"done m{n}" for n in range(40)]
    assert events[-1].content.parts[0].text == "done by hand"
    assert {step["job_id"] for step in run.told} == {job.id for job in many}


async def test_two_jobs_of_one_agent_that_fail_keep_their_own_steps(run):
    def reply(request) -> object:
        asked = request.contents[0].parts[0].text
        called[attempt(), asked] += 1
        if len(request.contents) == 1:
            return call("look", x="same")
        if attempt() == 1:
            return OSError("down")
        return f"done {asked}"

    agent = LlmAgent(name="a", model=ScriptedModel(replies=reply), tools=[look])
    async with run.client(agent) as jobs:
        many = [await enqueue(f"m{n}", session_id=f"s{n}") for n in range(3)]
        assert await drain(jobs) == {"retryable": 3, "completed": 3}
        texts = [(await job.result(timeout=5)).text for job in many]
    assert texts == ["done m0", "done m1", "done m2"]
    assert set(called.values()) == {1, 2}
