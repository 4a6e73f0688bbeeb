"""Tool calls: a body that has returned is not run again, and all it did comes back."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.artifacts import InMemoryArtifactService
from google.adk.tools import BaseTool, FunctionTool, LongRunningFunctionTool
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_toolset import BaseToolset
from google.adk.tools.tool_context import ToolContext
from google.adk.workflow import FunctionNode
from google.genai import types
from pydantic import BaseModel, Field

from adk_oban.testing import ScriptedModel, call
from attempts import Runs, asked, attempt, fail_commits, in_order

ran: Counter[str] = Counter()


@pytest.fixture
def run(dsn, migrated):
    ran.clear()
    return Runs(dsn, migrated)


def agent(*tools: Any, replies: list | None = None, **options: Any) -> LlmAgent:
    """Return an agent that calls its first tool, and fails once after that."""
    named = [getattr(tool, "name", None) or tool.__name__ for tool in tools]
    replies = replies or [call(named[0]), OSError("down"), "done"]
    model = ScriptedModel(replies=replies)
    return LlmAgent(name="a", model=model, tools=[*tools], **options)


async def both(run: Runs, tool: Any) -> tuple[Any, Any]:
    """Run a tool without and with a failure after it; return what came of both."""
    name = getattr(tool, "name", None) or tool.__name__
    live = await run(agent(tool, replies=[call(name), "done"]), session_id="live")
    bodies = ran["tool"]
    replay = await run(agent(tool), session_id="replay")
    assert replay.steps(2)[:2] == ["model scripted replayed", f"tool {name} replayed"]
    assert ran["tool"] == 2 * bodies
    return live, replay


class Place(BaseModel):
    name: str = "north"
    mayor: str | None = None
    size: int = Field(7, alias="howLarge")


@dataclass
class Pair:
    left: int
    right: str | None


BLOB = types.Blob(data=b"\x00\xff", mime_type="image/png")


VALUES = [
    "text",
    {"a": [1, None, {"b": 2.5}]},
    None,
    "",
    [],
    0,
    (1, 2),
    {7},
    date(2020, 1, 2),
    {"when": date(2020, 1, 2)},
    math.inf,
    "NUL \x00",
    "lone \ud800",
    {"$class": "Part", "value": {"text": "x"}},
    {"$bytes": "x", "$escaped": {"$class": 1}},
    b"\x00\xff",
    types.Part(inline_data=BLOB),
    types.Part(text="part"),
    [types.Part(text="part"), types.Part(inline_data=BLOB)],
    {"seen": b"bytes"},
    [Pair(1, None)],
]
OBJECTS = [Place(), [Place()], {"place": Place()}, Pair(1, "b")]


async def differing(run: Runs, values: list[Any]) -> list[Any]:
    """Return those values of which a tool's answer is another one on a replay."""

    async def give(n: int) -> Any:
        """Give one."""
        ran["given"] += 1
        return values[n]

    calls = [call("give", n=n) for n in range(len(values))]
    live = await run(agent(give, replies=[calls, "done"]), session_id="live")
    replies = [calls, OSError("down"), "done"]
    replay = await run(agent(give, replies=replies), session_id="replay")
    assert replay.count(2, "tool give replayed") == len(values)
    assert ran["given"] == 2 * len(values)
    each = zip(values, parts(live, 2), parts(replay, 2), strict=True)
    return [value for value, one, other in each if one != other]


async def test_what_a_tool_returned_is_the_same_on_a_replay(run):
    assert await differing(run, VALUES) == []


async def test_an_object_that_a_tool_returned_is_the_same_on_a_replay(run):
    assert await differing(run, OBJECTS) == []


async def test_a_large_result_is_replayed(run):
    data = b"\x00\xff" * 5_000_000
    blob = types.Blob(data=data, mime_type="image/png")

    async def give() -> dict:
        """Give it."""
        ran["tool"] += 1
        return {"picture": types.Part(inline_data=blob)}

    seen = await run(agent(give))
    assert (ran["tool"], seen.count(2, "tool give replayed")) == (1, 1)
    (answer,) = seen.session.events[2].content.parts
    assert len(str(answer.function_response.model_dump_json())) > len(data)


@pytest.mark.parametrize("sync", [True, False], ids=["plain", "async"])
async def test_functions_of_both_sorts_are_replayed(run, sync):
    def plain() -> str:
        """Do it."""
        ran["tool"] += 1
        return "ok"

    async def awaited() -> str:
        """Do it."""
        return plain()

    await both(run, plain if sync else awaited)


def act_state(context: ToolContext) -> None:
    context.state["k"] = [*context.state.get("k", []), 1]
    context.state["user:k"] = {"deep": {"er": 1}}
    context.state["app:k"] = "all"
    context.state["temp:k"] = "gone"


def act_twice(context: ToolContext) -> None:
    context.state["k"] = {"n": 1}
    nested = context.state["k"]
    nested["n"] = 2
    context.state["k"] = nested


def act_none(context: ToolContext) -> None:
    context.state["k"] = None


def act_date(context: ToolContext) -> None:
    context.state["k"] = date(2020, 1, 2)


def act_bytes(context: ToolContext) -> None:
    context.state["k"] = {"raw": b"\x00\xff"}


def act_model(context: ToolContext) -> None:
    context.state["k"] = Place()


def act_escalate(context: ToolContext) -> None:
    context.actions.escalate = True


def act_skip(context: ToolContext) -> None:
    context.actions.skip_summarization = True


def act_agent_state(context: ToolContext) -> None:
    context.actions.agent_state = {"k": [1]}
    context.actions.end_of_agent = False


STATES = [act_state, act_twice, act_none, act_escalate, act_agent_state]


def acts(act: Any) -> FunctionTool:
    async def do(tool_context: ToolContext) -> str:
        """Do it."""
        ran["tool"] += 1
        act(tool_context)
        return "did"

    return FunctionTool(do)


@pytest.mark.parametrize("act", STATES, ids=lambda act: act.__name__)
async def test_what_a_tool_did_is_done_again_on_a_replay(run, act):
    live, replay = await both(run, acts(act))
    assert replay.events == live.events
    assert replay.state == live.state


@pytest.mark.parametrize(
    "act", [act_date, act_bytes, act_model], ids=lambda act: act.__name__
)
async def test_state_that_is_no_json_is_the_same_on_a_replay(run, act):
    live, replay = await both(run, acts(act))
    assert (live.ended, replay.ended["retryable"]) == ({"completed": 1}, 1)
    assert replay.events == live.events
    assert replay.state == live.state


async def test_an_object_in_temporary_state_does_no_harm(run):
    def act(context: ToolContext) -> None:
        context.state["temp:client"] = object()

    live, replay = await both(run, acts(act))
    assert replay.events == live.events


async def test_a_summary_that_is_skipped_stays_skipped(run, conn, migrated):
    await fail_commits(conn, migrated)
    seen = await run(agent(acts(act_skip), replies=[call("do"), "never said"]))
    assert seen.steps(2) == ["model scripted replayed", "tool do replayed"]
    assert seen.events[-1]["actions"] == {"skip_summarization": True}
    assert len(seen.events) == 3


async def test_a_transfer_is_made_again(run):
    async def hand_over(tool_context: ToolContext) -> str:
        """Hand over."""
        ran["tool"] += 1
        tool_context.actions.transfer_to_agent = "other"
        return "over"

    other = LlmAgent(name="other", model=ScriptedModel(replies=[OSError("x"), "mine"]))
    mine = agent(hand_over, replies=[call("hand_over"), "no"], sub_agents=[other])
    seen = await run(mine)
    assert (seen.result.text, ran["tool"]) == ("mine", 1)
    assert seen.session.events[-1].author == "other"


async def test_adks_own_transfer_is_made_again(run):
    other = LlmAgent(
        name="other",
        description="Other",
        model=ScriptedModel(replies=[OSError("x"), "mine"]),
    )
    replies = [call("transfer_to_agent", agent_name="other")]
    seen = await run(agent(replies=replies, sub_agents=[other]))
    assert seen.result.text == "mine"
    assert seen.steps(2) == ["model scripted replayed", "model scripted live"]


async def test_an_artifact_is_saved_once_and_named_on_a_replay(run):
    service = InMemoryArtifactService()

    async def draw(tool_context: ToolContext) -> str:
        """Draw."""
        await tool_context.save_artifact("x.png", types.Part(inline_data=BLOB))
        return "drawn"

    seen = await run(agent(draw), adk_oban={"artifact_service": service})
    actions = [event["actions"] for event in seen.events]
    assert {"artifact_delta": {"x.png": 0}} in actions
    versions = await service.list_versions(
        app_name="app", user_id="u", session_id="s", filename="x.png"
    )
    assert versions == [0]


async def test_a_question_is_asked_again_under_the_new_calls_id(run, conn, migrated):
    async def ask(tool_context: ToolContext) -> str:
        """Ask."""
        ran["tool"] += 1
        tool_context.request_confirmation(hint="Really?", payload={"n": 1})
        return "asked"

    await fail_commits(conn, migrated, table="adk_oban_approvals")
    seen = await run(agent(ask, replies=[call("ask"), "never said"]))
    assert (seen.count(2, "tool ask replayed"), ran["tool"]) == (1, 1)
    calls = [c for e in seen.session.events for c in e.get_function_calls()]
    (wanted,) = [
        (id, confirmation.hint)
        for e in seen.session.events
        for id, confirmation in e.actions.requested_tool_confirmations.items()
    ]
    assert wanted == (calls[0].id, "Really?")
    ((kind, tool, args, payload),) = await asked(conn, migrated)
    assert (kind, tool, args) == ("confirmation", "ask", {})
    assert payload["originalFunctionCall"]["id"] == calls[0].id


async def test_parallel_calls_are_recorded_each_on_its_own(run):
    async def look(x: int) -> str:
        """Look."""
        ran[f"{x} in {attempt()}"] += 1
        if x == 2 and attempt() == 1:
            raise OSError("down")
        return f"seen {x}"

    calls = [call("look", x=1), call("look", x=2), call("look", x=3)]
    seen = await run(agent(look, replies=[calls, "done"]))
    assert ran["1 in 1"] == ran["2 in 1"] == ran["2 in 2"] == 1
    assert ran["1 in 2"] == 0
    answers = [p["function_response"]["response"] for p in parts(seen, 2)]
    assert answers == [{"result": f"seen {x}"} for x in (1, 2, 3)]


def parts(seen, number: int) -> list[dict]:
    return seen.events[number]["content"]["parts"]


async def test_parallel_equal_calls_are_each_run_once(run):
    async def draw() -> int:
        """Draw a number."""
        ran["tool"] += 1
        return ran["tool"]

    replies = [[call("draw")] * 3, OSError("down"), "done"]
    seen = await run(agent(draw, replies=replies))
    assert ran["tool"] == 3
    answers = [p["function_response"]["response"]["result"] for p in parts(seen, 2)]
    assert answers == [1, 2, 3]


async def test_of_parallel_equal_calls_only_the_one_that_failed_runs_again(run):
    async def draw() -> int:
        """Fail the second time."""
        ran["tool"] += 1
        if ran["tool"] == 2:
            raise OSError("down")
        return ran["tool"]

    seen = await run(agent(draw, replies=[[call("draw")] * 2, "done"]))
    assert ran["tool"] == 3
    assert sorted(seen.steps(2)) == [
        "model scripted live",
        "model scripted replayed",
        "tool draw live",
        "tool draw replayed",
    ]


async def test_a_call_that_failed_is_made_again(run):
    async def look() -> str:
        """Fail once."""
        ran["tool"] += 1
        if ran["tool"] == 1:
            raise OSError("down")
        return "seen"

    seen = await run(agent(look, replies=[call("look"), "done"]))
    assert seen.ended == {"retryable": 1, "completed": 1}
    assert seen.steps(2) == [
        "model scripted replayed",
        "tool look live",
        "model scripted live",
    ]


async def test_an_error_that_the_agent_lived_with_is_lived_with_on_a_replay(run):
    async def look() -> str:
        """Fail once."""
        ran["tool"] += 1
        if ran["tool"] == 1:
            raise LookupError("not yet")
        return "seen"

    def on_error(tool, args, tool_context, error) -> dict:
        ran[f"errors in {attempt()}"] += 1
        return {"error": str(error)}

    replies = [call("look"), call("look"), OSError("down"), "done"]
    seen = await run(agent(look, replies=replies, on_tool_error_callback=on_error))
    assert ran == {"tool": 2, "errors in 1": 1, "errors in 2": 1}
    assert parts(seen, 2)[0]["function_response"]["response"] == {"error": "not yet"}
    assert seen.result.steps["changed"] == 0


async def test_a_call_with_other_arguments_runs_live(run):
    async def look(x: int) -> str:
        """Look."""
        ran[f"{x}"] += 1
        return f"seen {x}"

    def before_tool(tool, args, tool_context) -> None:
        args["x"] = attempt()

    replies = [call("look", x=0), OSError("down"), "done"]
    seen = await run(agent(look, replies=replies, before_tool_callback=before_tool))
    assert ran == {"1": 1, "2": 1}
    assert seen.count(2, "tool look live") == 1


class Own(BaseTool):
    """A tool of the user's own."""

    def __init__(self, name: str = "own") -> None:
        super().__init__(name=name, description="Own.")

    def _get_declaration(self) -> types.FunctionDeclaration:
        return types.FunctionDeclaration(name=self.name, description="Own.")

    async def run_async(self, *, args, tool_context) -> Any:
        ran["tool"] += 1
        return {"own": True}


async def test_a_tool_of_the_users_own_class_is_replayed(run):
    await both(run, Own())


async def test_a_tool_that_calls_its_parents_method_is_one_step(run):
    class Below(Own):
        async def run_async(self, *, args, tool_context) -> Any:
            inner = await super().run_async(args=args, tool_context=tool_context)
            return {"below": inner}

    live, _ = await both(run, Below())
    assert live.count(1, "tool own live") == 1


async def test_a_tool_whose_method_is_a_mixins_is_replayed(run):
    class Runs_:
        async def run_async(self, *, args, tool_context) -> Any:
            ran["tool"] += 1
            return {"mixed": True}

    class Mixed(Runs_, Own):
        pass

    await both(run, Mixed())


async def test_tools_of_a_toolset_are_replayed(run):
    class Set(BaseToolset):
        async def get_tools(self, readonly_context=None) -> list[BaseTool]:
            ran["listed"] += 1
            return [Own("first"), Own("second")]

    model = ScriptedModel(replies=[call("second"), OSError("down"), "done"])
    seen = await run(LlmAgent(name="a", model=model, tools=[Set()]))
    assert seen.steps(2)[:2] == ["model scripted replayed", "tool second replayed"]
    assert ran["tool"] == 1


async def test_a_long_running_tool_is_replayed_and_waited_for(run, conn, migrated):
    def order(what: str) -> None:
        """Order it."""
        ran["tool"] += 1

    await fail_commits(conn, migrated, table="adk_oban_approvals")
    tool = LongRunningFunctionTool(order)
    seen = await run(agent(tool, replies=[call("order", what="tea"), "ordered"]))
    assert seen.steps(2)[1] == "tool order replayed"
    assert ran["tool"] == 1
    ((kind, tool, args, _),) = await asked(conn, migrated)
    assert (kind, tool, args) == ("long_running", "order", {"what": "tea"})


@pytest.mark.filterwarnings("ignore:.*plugins.*deprecated")
@pytest.mark.parametrize("plugins", [True, False], ids=["with", "without"])
async def test_the_steps_of_an_agent_tool_are_replayed(run, plugins):
    inner = LlmAgent(
        name="inner",
        model=ScriptedModel(model="inner", replies=[call("own"), "inside"]),
        tools=[Own()],
    )
    tool = AgentTool(inner, include_plugins=plugins)
    replies = [call("inner", request="go"), OSError("down"), "done"]
    seen = await run(agent(tool, replies=replies))
    assert seen.steps(2) == [
        "model scripted replayed",
        "model inner replayed",
        "tool own replayed",
        "model inner replayed",
        "model scripted live",
    ]
    assert ran["tool"] == 1
    assert seen.result.model_calls == 4


@pytest.mark.filterwarnings("ignore:.*plugins.*deprecated")
async def test_an_agent_tool_that_failed_half_way_goes_on_there(run):
    model = ScriptedModel(model="inner", replies=[call("own"), OSError("x"), "inside"])
    inner = LlmAgent(name="inner", model=model, tools=[Own()])
    replies = [call("inner", request="go"), "done"]
    seen = await run(agent(AgentTool(inner), replies=replies))
    assert (ran["tool"], len(model.requests)) == (1, 3)
    assert parts(seen, 2)[0]["function_response"]["response"] == {"result": "inside"}


async def test_a_tool_that_runs_nodes_runs_again_and_they_are_replayed(run):
    def double(node_input: int) -> int:
        ran["node"] += 1
        return 2 * node_input

    async def manage(tool_context: ToolContext) -> int:
        """Manage."""
        ran["tool"] += 1
        node = FunctionNode(func=double, name="double")
        return await tool_context.run_node(node, node_input=4)

    seen = await run(agent(manage))
    assert ran == {"tool": 2, "node": 1}
    assert seen.count(2, "node double replayed") == 1
    assert parts(seen, 3)[0]["function_response"]["response"] == {"result": 8}


async def test_a_tool_that_calls_another_by_hand_is_one_step(run):
    own = Own()

    async def both_at_once(tool_context: ToolContext) -> Any:
        """Call another."""
        return await own.run_async(args={}, tool_context=tool_context)

    seen = await run(agent(both_at_once))
    assert seen.count(1, "tool both_at_once live") == 1
    assert (seen.count(1, "tool own live"), ran["tool"]) == (0, 1)


async def test_two_agents_with_equal_calls_do_not_share_them(run):
    def one(name: str, *replies) -> LlmAgent:
        model = ScriptedModel(model=name, replies=[call("own"), *replies])
        return LlmAgent(name=name, model=model, tools=[Own()])

    first, second = one("first", "a"), one("second", OSError("down"), "b")
    seen = await run(in_order(first, second))
    assert ran["tool"] == 2
    assert seen.count(2, "tool own replayed") == 2


async def test_errors_of_parallel_calls_that_the_agent_lived_with_come_again(run):
    async def look(x: int) -> str:
        """Fail twice, differently."""
        ran[f"{x}"] += 1
        if ran[f"{x}"] == 1:
            raise LookupError(f"no {x}")
        return f"seen {x}"

    def on_error(tool, args, tool_context, error) -> dict:
        ran[f"errors in {attempt()}"] += 1
        return {"error": str(error)}

    calls = [call("look", x=1), call("look", x=2)]
    mine = agent(
        look,
        replies=[calls, calls, OSError("down"), "done"],
        on_tool_error_callback=on_error,
    )
    seen = await run(mine)
    assert (ran["1"], ran["2"]) == (2, 2)
    assert (ran["errors in 1"], ran["errors in 2"]) == (2, 2)
    answers = [p["function_response"]["response"] for p in parts(seen, 2)]
    assert answers == [{"error": "no 1"}, {"error": "no 2"}]
