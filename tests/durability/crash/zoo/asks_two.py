"""Agents side by side that each ask, one that does not, and one that reads them all."""

from google.adk.agents import LlmAgent, ParallelAgent, SequentialAgent

from durability.crash.script import Script, call

from .kind import Kind, composite
from .tools import PAY, mark


def make() -> SequentialAgent:
    """Make it."""
    payers = [
        LlmAgent(
            name=name,
            model=Script(
                model=name, plan=[call("pay", amount=amount), f"{name} {{told}}"]
            ),
            tools=[PAY],
        )
        for name, amount in (("one", 1), ("two", 2))
    ]
    three = LlmAgent(
        name="three",
        model=Script(
            model="three", plan=[call("mark", scope="", value="x"), "Three {told}"]
        ),
        tools=[mark],
    )
    both = composite(ParallelAgent, name="both", sub_agents=[*payers, three])
    last = LlmAgent(
        name="last", model=Script(model="last", plan=["All {told}"], ordered=False)
    )
    return composite(SequentialAgent, name="root", sub_agents=[both, last])


KIND = Kind("asks_two", make, ordered=False, width=3)
