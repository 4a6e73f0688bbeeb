"""A Workflow: function nodes of every sort, an agent, a join, a node run by a node."""

from collections.abc import AsyncGenerator, Generator
from typing import Any

from google.adk import Event
from google.adk.agents import Context, LlmAgent
from google.adk.workflow import JoinNode, Workflow, node

from durability.crash.effects import effects
from durability.crash.script import Script

from .kind import Kind


def split(node_input: Any) -> dict[str, str]:
    """A plain function."""
    with effects.body("node", "split"):
        return {"topic": "north"}


async def left(ctx: Context, node_input: dict[str, str]) -> str:
    """A coroutine that writes state."""
    with effects.body("node", "left", node_input):
        ctx.state["left"] = "seen"
        return f"left of {node_input['topic']}"


async def right(node_input: dict[str, str]) -> AsyncGenerator[Event, None]:
    """An asynchronous generator, with state and an output."""
    with effects.body("node", "right", node_input):
        yield Event(state={"right": 1})
        yield Event(state={"right": 2})
        yield Event(output=f"right of {node_input['topic']}")


def down(node_input: dict[str, str]) -> Generator[Event, None, None]:
    """A generator."""
    with effects.body("node", "down", node_input):
        yield Event(state={"down": 1})
        yield Event(output="down")


def double(node_input: str) -> str:
    """What another node runs."""
    with effects.body("node", "double", node_input):
        return f"{node_input} {node_input}"


@node(rerun_on_resume=True)
async def manager(ctx: Context, node_input: Any) -> str:
    """A node that runs another one."""
    with effects.body("node", "manager"):
        once = await ctx.run_node(double, "a")
        return str(await ctx.run_node(double, once))


def last(node_input: Any, left: str) -> str:
    """One that is given state."""
    with effects.body("node", "last", [node_input, left]):
        return f"all of {node_input}, {left}"


def make() -> Workflow:
    """Make it."""
    join = JoinNode(name="join")
    writer = LlmAgent(name="writer", model=Script(model="writer", plan=["Text {told}"]))
    return Workflow(
        name="graph",
        edges=[
            ("START", split, (left, right, down), join, writer, manager, last),
        ],
    )


KIND = Kind("graph", make, ordered=False, width=3, conductors=("manager",))
