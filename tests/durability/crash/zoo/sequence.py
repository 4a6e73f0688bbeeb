"""A SequentialAgent."""

from google.adk.agents import LlmAgent, SequentialAgent

from durability.crash.script import Script, call

from .kind import Kind, composite
from .tools import look


def make() -> SequentialAgent:
    """Make it."""
    scout = LlmAgent(
        name="scout",
        model=Script(model="scout", plan=[call("look", place="north"), "It is fine"]),
        tools=[look],
        output_key="report",
    )
    critic = LlmAgent(
        name="critic",
        model=Script(model="critic", plan=["Good {told}"]),
        instruction="Judge this: {report}",
    )
    writer = LlmAgent(name="writer", model=Script(model="writer", plan=["End {told}"]))
    return composite(SequentialAgent, name="line", sub_agents=[scout, critic, writer])


KIND = Kind("sequence", make)
