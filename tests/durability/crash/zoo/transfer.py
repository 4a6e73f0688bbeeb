"""An agent that hands over to a sub-agent."""

from google.adk.agents import LlmAgent

from durability.crash.script import Script, call

from .kind import Kind
from .tools import look, note


def make() -> LlmAgent:
    """Make it."""
    clerk = LlmAgent(
        name="clerk",
        description="Does it",
        model=Script(
            model="clerk",
            plan=[call("note", key="clerk", value="here"), "Clerk {told}"],
        ),
        tools=[note],
    )
    plan = [
        call("look", place="north"),
        call("transfer_to_agent", agent_name="clerk"),
        "Never said",
    ]
    return LlmAgent(
        name="host",
        model=Script(model="host", plan=plan),
        tools=[look],
        sub_agents=[clerk],
    )


KIND = Kind("transfer", make)
