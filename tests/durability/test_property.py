"""Random trees of agents, crashed at random points."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from google.adk.agents import (
    BaseAgent,
    LlmAgent,
    LoopAgent,
    ParallelAgent,
    SequentialAgent,
)
from google.adk.tools.agent_tool import AgentTool
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from durability.crash import exceptions
from durability.crash.rig import Rig, rig
from durability.crash.script import Script, call
from durability.crash.verdict import differing
from durability.crash.zoo import Kind
from durability.crash.zoo.kind import composite
from durability.crash.zoo.tools import count as count_letters
from durability.crash.zoo.tools import look, mark

type Tree = tuple[Any, ...]

# ADK calls what it does itself deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TOOLS = [look, count_letters, mark]
CALLS = [
    call("look", place="north"),
    call("look", place="south"),
    call("count", text="abc"),
    call("mark", scope="", value="north"),
    call("mark", scope="user:", value="south"),
]

plans = st.lists(
    st.lists(st.integers(0, len(CALLS) - 1), min_size=1, max_size=3), max_size=2
)
leaves = st.tuples(st.just("leaf"), plans, st.integers(0, 4))


def branches(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    several = st.lists(children, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("sequence"), several),
        st.tuples(st.just("parallel"), several),
        st.tuples(st.just("loop"), several),
        st.tuples(st.just("tool"), children),
    )


trees = st.one_of(branches(leaves), branches(branches(leaves)), leaves)


@pytest.fixture
def place(server: str, tmp_path: Path) -> Iterator[Rig]:
    with rig(server, f"test_property_{os.getpid()}", tmp_path) as made:
        yield made


@settings(
    max_examples=25,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # what fails is small enough
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(tree=trees, where=st.lists(st.floats(0, 0.999), min_size=1, max_size=2))
def test_any_tree_of_agents_ends_as_if_it_had_not_crashed(
    tree: Tree, where: list[float], place: Rig
) -> None:
    kind = Kind("tree", lambda: grown(tree), ordered=False, width=30)
    reference = asyncio.run(exceptions.reference(kind, place, times=1))
    assert reference.halves == []

    numbers = [int(part * len(reference.points)) for part in where]
    verdicts = asyncio.run(exceptions.crash(kind, place, reference, numbers))

    assert differing(verdicts) == ""


def grown(tree: Tree) -> BaseAgent:
    """Make the agents, and one that reads at the end what all others said."""
    numbers = count()
    whole = ("sequence", [tree, ("leaf", [], 0)])
    return _grown(whole, lambda kind: f"{kind}_{next(numbers)}")


def _grown(tree: Tree, named: Callable[[str], str]) -> BaseAgent:
    match tree:
        case "leaf", plan, turns:
            return _leaf(named("leaf"), plan, turns)
        case "tool", inner:
            expert = _grown(inner, named)
            asked = [call(expert.name, request="Go deeper"), "Asked {told}"]
            model = Script(model=named("model"), plan=asked, ordered=False)
            tool = AgentTool(agent=expert)
            return LlmAgent(name=named("asker"), model=model, tools=[tool])
        case "loop", children:
            inner = [_grown(child, named) for child in children]
            return composite(
                LoopAgent, name=named("loop"), sub_agents=inner, max_iterations=2
            )
        case kind, children:
            made = SequentialAgent if kind == "sequence" else ParallelAgent
            inner = [_grown(child, named) for child in children]
            return composite(made, name=named(kind), sub_agents=inner)
    raise AssertionError(tree)


def _leaf(name: str, plan: list[list[int]], turns: int) -> LlmAgent:
    replies = [*([CALLS[number] for number in calls] for calls in plan), "End {told}"]
    model = Script(
        model=f"of {name}", plan=replies, turns=1 + 50 * turns, ordered=False
    )
    return LlmAgent(name=name, model=model, tools=[*TOOLS], output_key=f"{name}_says")
