"""An agent inside AgentTool that asks twice."""

from google.adk.agents import LlmAgent
from google.adk.tools.agent_tool import AgentTool

from durability.crash.script import Script, call

from .kind import Kind
from .tools import PAY, look, note


def make() -> LlmAgent:
    """Make it."""
    expert = LlmAgent(
        name="expert",
        description="Pays",
        model=Script(
            model="expert",
            plan=[
                call("note", key="expert", value="north"),
                call("pay", amount=5),
                call("pay", amount=6),
                "Paid {told}",
            ],
        ),
        tools=[PAY, note],
    )
    plan = [
        call("look", place="north"),
        call("expert", request="Go deeper"),
        "Done {told}",
    ]
    return LlmAgent(
        name="asker",
        model=Script(model="asker", plan=plan),
        tools=[AgentTool(agent=expert), look],
    )


KIND = Kind("asks_inside", make, outages=True)
