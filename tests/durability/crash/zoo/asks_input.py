"""A Workflow whose node asks for input."""

from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import Context, LlmAgent
from google.adk.events import RequestInput
from google.adk.workflow import Workflow

from durability.crash.effects import effects
from durability.crash.script import Script

from .kind import Kind


def first(node_input: Any) -> str:
    """What comes before."""
    with effects.body("node", "first"):
        return "north"


async def ask(node_input: str) -> AsyncGenerator[RequestInput, None]:
    """Ask."""
    with effects.body("node", "ask", node_input):
        yield RequestInput(interrupt_id="which", message=f"Which {node_input}?")


async def book(ctx: Context, node_input: str) -> str:
    """Use what was answered."""
    with effects.body("node", "book", node_input):
        ctx.state["booked"] = node_input
        return f"booked {node_input}"


def make() -> Workflow:
    """Make it."""
    writer = LlmAgent(name="writer", model=Script(model="writer", plan=["Text {told}"]))
    return Workflow(name="form", edges=[("START", first, ask, book, writer)])


KIND = Kind("asks_input", make, response="the red one")
