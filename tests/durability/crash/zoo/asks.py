"""An agent that asks twice whether a tool may run, and another one after it."""

from google.adk.agents import LlmAgent, SequentialAgent

from durability.crash.script import Script, call

from .kind import Kind, composite
from .tools import PAY, look, note


def make() -> SequentialAgent:
    """Make it."""
    plan = [
        call("look", place="north"),
        call("pay", amount=5),
        call("note", key="paid", value="5"),
        call("pay", amount=6),
        "Paid {told}",
    ]
    payer = LlmAgent(
        name="payer",
        model=Script(model="payer", plan=plan),
        tools=[look, PAY, note],
        output_key="report",
    )
    writer = LlmAgent(
        name="writer",
        model=Script(model="writer", plan=[call("look", place="south"), "End {told}"]),
        instruction="Go by this: {report}",
        tools=[look],
    )
    return composite(SequentialAgent, name="line", sub_agents=[payer, writer])


KIND = Kind("asks", make, outages=True)
