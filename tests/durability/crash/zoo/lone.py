"""An LlmAgent that calls tools one by one."""

from google.adk.agents import LlmAgent

from durability.crash.script import Script, call

from .kind import Kind
from .tools import count, look, note


def make() -> LlmAgent:
    """Make it."""
    plan = [
        call("look", place="north"),
        call("count", text="abc"),
        call("note", key="seen", value="north"),
        "Done {told}",
    ]
    return LlmAgent(
        name="lone",
        model=Script(plan=plan),
        instruction="Look around. So far: {notes?}",
        tools=[look, count, note],
        output_key="answer",
    )


KIND = Kind("lone", make, outages=True)
