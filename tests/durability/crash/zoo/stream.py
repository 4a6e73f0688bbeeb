"""An LlmAgent whose model streams."""

from google.adk.agents import LlmAgent

from durability.crash.script import Script, call

from .kind import Kind
from .tools import look


def make() -> LlmAgent:
    """Make it."""
    plan = [
        [*[call("look", place="north")]],
        "Half way, and on we go",
        "Never said",
    ]
    return LlmAgent(name="stream", model=Script(plan=plan), tools=[look])


KIND = Kind("stream", make, runner_opts={"streaming_mode": "sse"})
