"""Tools that write session, user: and app: state, and save artifacts."""

from google.adk.agents import LlmAgent
from google.adk.tools import ToolContext
from google.genai import types

from durability.crash.effects import effects
from durability.crash.script import Script, call

from .kind import Kind


async def remember(value: str, tool_context: ToolContext) -> str:
    """Write to all scopes."""
    with effects.body("tool", "remember", value):
        state = tool_context.state
        for key in ("plain", "user:mine", "app:all", "temp:now"):
            state[key] = [*state.get(key, []), value]
        return "remembered"


async def draw(name: str, tool_context: ToolContext) -> str:
    """Save an artifact."""
    with effects.body("tool", "draw", name):
        picture = types.Part(
            inline_data=types.Blob(data=b"\x00\xff", mime_type="image/png")
        )
        await tool_context.save_artifact(name, picture)
        tool_context.actions.skip_summarization = name == "last.png"
        return "drawn"


def make() -> LlmAgent:
    """Make it."""
    plan = [
        call("remember", value="a"),
        call("draw", name="first.png"),
        call("remember", value="b"),
        call("draw", name="last.png"),
        "Never said",
    ]
    return LlmAgent(
        name="scopes",
        model=Script(plan=plan),
        instruction="Known: {user:mine?} {app:all?} {plain?}",
        tools=[remember, draw],
    )


KIND = Kind("scopes", make, messages=("Go first.", "Go on."))
