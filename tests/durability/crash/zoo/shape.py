"""An agent with an output schema and a planner."""

from google.adk.agents import LlmAgent
from google.adk.planners import PlanReActPlanner
from pydantic import BaseModel

from durability.crash.script import Script, call

from .kind import Kind
from .tools import look


class Report(BaseModel):
    """What it answers."""

    place: str
    score: int


def make() -> LlmAgent:
    """Make it."""
    plan = [
        call("look", place="north"),
        call("set_model_response", place="north", score=7),
        '{"place": "north", "score": 7}',
    ]
    return LlmAgent(
        name="shape",
        model=Script(plan=plan),
        tools=[look],
        planner=PlanReActPlanner(),
        output_schema=Report,
        output_key="report",
    )


KIND = Kind("shape", make)
