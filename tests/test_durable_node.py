"""Function nodes: what has run is not run again, with all its events and its state."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.agents.context import Context
from google.adk.events import Event
from google.adk.runners import InMemoryRunner
from google.adk.workflow import START, JoinNode, RetryConfig, Workflow, node
from google.genai import types
from pydantic import BaseModel

from adk_oban.testing import ScriptedModel
from attempts import Runs, attempt, in_order

ran: Counter[str] = Counter()


@pytest.fixture
def run(dsn, migrated):
    ran.clear()
    return Runs(dsn, migrated)


def fails_once(node_input: Any) -> Any:
    ran["fails"] += 1
    if ran["fails"] == 1:
        raise OSError("down")
    return fine(node_input)


def fine(node_input: Any) -> Any:
    return "nothing" if node_input is None else node_input


async def both(run: Runs, *nodes: Any) -> tuple[Any, Any]:
    """Run nodes without and with a failure after them; return what came of both."""
    live = await run(in_order(*nodes, node(fine, name="last")), session_id="live")
    ran.clear()
    replay = await run(
        in_order(*nodes, node(fails_once, name="last")), session_id="replay"
    )
    assert replay.ended == {"retryable": 1, "completed": 1}
    assert ran["node"] == 1
    assert replay.result.output == live.result.output
    assert replay.events == live.events
    assert replay.state == live.state
    return live, replay


def plain(node_input: str) -> dict:
    ran["node"] += 1
    return {"told": node_input, "n": [1, None]}


async def awaited(ctx: Context, node_input: str) -> str:
    ran["node"] += 1
    ctx.state["k"] = [1]
    ctx.state["user:k"] = {"deep": {"er": 1}}
    return "awaited"


async def generated(ctx: Context, node_input: str):
    ran["node"] += 1
    yield Event(state={"first": 1})
    ctx.state["second"] = 2
    yield Event(
        content=types.Content(role="model", parts=[types.Part(text="half way")])
    )
    yield Event(output={"sum": 3})
    ctx.state["after"] = 4


def generated_plain(node_input: str):
    ran["node"] += 1
    yield Event(state={"first": 1})
    yield Event(output=[b"\x00\xff"])


def an_event(node_input: str) -> Event:
    ran["node"] += 1
    return Event(output="of an event", state={"k": 1})


def nothing(node_input: str) -> None:
    ran["node"] += 1


class Place(BaseModel):
    name: str = "north"
    mayor: str | None = None


def a_model(node_input: str) -> Place:
    ran["node"] += 1
    return Place()


def a_content(node_input: str) -> types.Content:
    ran["node"] += 1
    return types.Content(role="model", parts=[types.Part(text="\x00")])


SORTS = [
    plain,
    awaited,
    generated,
    generated_plain,
    an_event,
    nothing,
    a_model,
    a_content,
]


@pytest.mark.parametrize("function", SORTS, ids=lambda function: function.__name__)
async def test_a_node_of_any_sort_is_replayed(run, function):
    _, replay = await both(run, function)
    assert replay.count(2, f"node {function.__name__} replayed") == 1


async def test_a_route_is_taken_again(run):
    def choose(ctx: Context, node_input: str) -> str:
        ran["node"] += 1
        ctx.route = "left"
        return "chosen"

    def left(node_input: str) -> str:
        ran["left"] += 1
        return fails_once(node_input)

    def right(node_input: str) -> str:
        ran["right"] += 1
        return node_input

    flow = Workflow(
        name="w", edges=[(START, choose), (choose, {"left": left, "right": right})]
    )
    seen = await run(flow)
    assert (ran["node"], ran["left"], ran["right"]) == (1, 2, 0)
    assert seen.result.output == "chosen"


async def test_a_generator_that_failed_half_way_runs_from_its_beginning(run):
    async def halts(node_input: str):
        ran["node"] += 1
        yield Event(state={f"seen {attempt()}": 1})
        if attempt() == 1:
            raise OSError("down")
        yield Event(output="whole")

    seen = await run(in_order(halts))
    assert (ran["node"], seen.result.output) == (2, "whole")
    assert seen.state == {"seen 2": 1}


async def test_a_node_that_runs_nodes_runs_again_and_they_are_replayed(run):
    def double(node_input: int) -> int:
        ran["double"] += 1
        return 2 * node_input

    @node(rerun_on_resume=True)
    async def manager(ctx: Context, node_input: Any) -> int:
        ran["manager"] += 1
        first = await ctx.run_node(double, 1)
        second = await ctx.run_node(double, first)
        return fails_once(second)

    seen = await run(in_order(manager))
    assert (ran["manager"], ran["double"]) == (2, 2)
    assert seen.count(2, "node double replayed") == 2
    assert seen.result.output == 4
    assert [e["output"] for e in seen.events if "output" in e] == [2, 4, 4]


async def test_an_agent_that_a_node_runs_is_replayed(run):
    @node(rerun_on_resume=True)
    async def manager(ctx: Context, node_input: Any) -> Any:
        inner = LlmAgent(name="inner", model=model)
        return fails_once(await ctx.run_node(inner, node_input="go"))

    model = ScriptedModel(replies=["inside"])
    seen = await run(in_order(manager))
    assert (seen.result.output, len(model.requests)) == ("inside", 1)


async def test_nodes_side_by_side_are_recorded_each_on_its_own(run):
    async def left(node_input: str) -> str:
        ran["left"] += 1
        return "left"

    async def right(node_input: str) -> str:
        ran["right"] += 1
        return fails_once("right")

    join = JoinNode(name="join")
    seen = await run(Workflow(name="w", edges=[(START, (left, right), join)]))
    assert (ran["left"], ran["right"]) == (1, 2)
    assert seen.result.output == {"left": "left", "right": "right"}


async def test_a_node_with_another_input_runs_live(run):
    def first(node_input: str) -> str:
        ran["first"] += 1
        if ran["first"] == 1:
            return "one"
        return "other"

    def manager_input(node_input: str) -> str:
        ran["second"] += 1
        return f"{node_input} {attempt()}"

    @node(rerun_on_resume=True)
    async def manager(ctx: Context, node_input: Any) -> str:
        told = await ctx.run_node(manager_input, f"attempt {attempt()}")
        return fails_once(told)

    seen = await run(in_order(first, manager))
    assert (ran["first"], ran["second"]) == (1, 2)
    assert seen.result.output == "attempt 2 2"


async def test_a_node_that_adk_tries_again_itself_is_recorded_once(run):
    def shaky(node_input: str) -> str:
        ran["shaky"] += 1
        if ran["shaky"] < 3:
            raise OSError("down")
        return "ok"

    retry = RetryConfig(max_attempts=5, initial_delay=0, jitter=0)
    seen = await run(in_order(node(shaky, retry_config=retry), fails_once))
    assert (ran["shaky"], seen.result.output) == (3, "ok")


async def test_what_is_no_json_ends_the_job_and_names_the_node(run):
    def strange(ctx: Context, node_input: str) -> Any:
        ran["node"] += 1
        return object()

    seen = await run(in_order(strange))
    assert (seen.ended, ran["node"]) == ({"cancelled": 1}, 1)
    assert "node 'strange' returned what cannot be recorded" in seen.error
    assert seen.session is None


async def test_one_workflow_serves_many_jobs_and_runs_outside_of_them(run):
    flow = in_order(plain)
    live = await run(flow, session_id="one")
    other = await run(flow, session_id="two", message="ho")
    assert (live.result.output["told"], other.result.output["told"]) == ("hi", "ho")

    runner = InMemoryRunner(node=flow, app_name="app")
    events = await runner.run_debug("by hand", quiet=True)
    assert events[-1].output["told"] == "by hand"
    assert ran["node"] == 3
