"""An agent as the tool of another."""

from google.adk.agents import LlmAgent
from google.adk.tools.agent_tool import AgentTool

from durability.crash.script import Script, call

from .kind import Kind
from .tools import look, note


def make() -> LlmAgent:
    """Make it."""
    expert = LlmAgent(
        name="expert",
        description="Knows",
        model=Script(
            model="expert",
            plan=[
                call("look", place="north"),
                call("note", key="expert", value="north"),
                "North {told}",
            ],
        ),
        tools=[look, note],
    )
    plan = [
        call("expert", request="Go deeper"),
        call("expert", request="Go deeper"),
        call("look", place="south"),
        "Done {told}",
    ]
    return LlmAgent(
        name="asker",
        model=Script(model="asker", plan=plan),
        tools=[AgentTool(agent=expert), look],
    )


KIND = Kind("agent_tool", make)
