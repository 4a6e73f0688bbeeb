"""An LlmAgent that calls tools in parallel."""

from google.adk.agents import LlmAgent

from durability.crash.script import Script, call

from .kind import Kind
from .tools import count, look, note


def make() -> LlmAgent:
    """Make it."""
    plan = [
        [
            call("look", place="north"),
            call("look", place="north"),
            call("count", text="abc"),
            call("note", key="seen", value="north"),
        ],
        [call("look", place="south"), call("note", key="seen", value="south")],
        "Done {told}",
    ]
    return LlmAgent(name="volley", model=Script(plan=plan), tools=[look, count, note])


KIND = Kind("volley", make, width=4)
