"""An agent with a tool that takes its time: somebody says what came of it."""

from google.adk.agents import LlmAgent
from google.adk.tools import LongRunningFunctionTool

from durability.crash.effects import effects
from durability.crash.script import Script, call

from .kind import Kind
from .tools import look


async def order(what: str) -> dict[str, str]:
    """Order something."""
    with effects.body("tool", "order", what):
        return {"status": "pending"}


def make() -> LlmAgent:
    """Make it."""
    plan = [
        call("look", place="north"),
        call("order", what="boat"),
        "Ordered {told}",
        call("look", place="south"),
        "Done {told}",
    ]
    return LlmAgent(
        name="long",
        model=Script(plan=plan),
        tools=[look, LongRunningFunctionTool(order)],
    )


KIND = Kind("long", make, response={"status": "arrived"})
