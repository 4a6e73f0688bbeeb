"""An agent that asks about two calls at once, beside one that just runs."""

from google.adk.agents import LlmAgent

from durability.crash.script import Script, call

from .kind import Kind
from .tools import PAY, look, note


def make() -> LlmAgent:
    """Make it."""
    plan = [
        [call("pay", amount=1), call("look", place="north"), call("pay", amount=2)],
        call("note", key="paid", value="3"),
        "Done {told}",
    ]
    return LlmAgent(
        name="asks_volley", model=Script(plan=plan), tools=[PAY, look, note]
    )


KIND = Kind("asks_volley", make, width=3)
