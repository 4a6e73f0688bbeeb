"""A LoopAgent that is left by `exit_loop`."""

from google.adk.agents import LlmAgent, LoopAgent
from google.adk.tools import exit_loop

from durability.crash.script import Script, call

from .kind import Kind, composite
from .tools import look


def make() -> LoopAgent:
    """Make it."""
    drafter = LlmAgent(
        name="drafter",
        model=Script(
            model="drafter",
            plan=[call("look", place="north"), "Draft 1", "Draft 2 {told}"],
        ),
        tools=[look],
        output_key="draft",
    )
    judge = LlmAgent(
        name="judge",
        model=Script(model="judge", plan=["Again", call("exit_loop"), "Good"]),
        instruction="Judge this: {draft}",
        tools=[exit_loop],
    )
    return composite(
        LoopAgent, name="loop", sub_agents=[drafter, judge], max_iterations=4
    )


KIND = Kind("loop", make)
