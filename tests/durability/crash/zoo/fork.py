"""A ParallelAgent, whose slower branch stands first, and one that reads all of it."""

from google.adk.agents import LlmAgent, ParallelAgent, SequentialAgent

from durability.crash.script import Script, call

from .kind import Kind, composite
from .tools import look, note


def make() -> SequentialAgent:
    """Make it."""
    slow = LlmAgent(
        name="slow",
        model=Script(
            model="slow", plan=[call("look", place="north"), "Slow"], turns=500
        ),
        tools=[look],
        output_key="slow_report",
    )
    fast = LlmAgent(
        name="fast",
        model=Script(model="fast", plan=[call("note", key="k", value="v"), "Fast"]),
        tools=[note],
        output_key="fast_report",
    )
    both = composite(ParallelAgent, name="both", sub_agents=[slow, fast])
    merger = LlmAgent(
        name="merger",
        model=Script(model="merger", plan=["Merged {told}"], ordered=False),
    )
    return composite(SequentialAgent, name="fork", sub_agents=[both, merger])


KIND = Kind("fork", make, ordered=False, width=2)
