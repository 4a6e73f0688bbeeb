"""Tools that several agents of the zoo have."""

from __future__ import annotations

from google.adk.tools import FunctionTool, ToolContext

from durability.crash.effects import effects


async def look(place: str) -> str:
    """Look somewhere."""
    with effects.body("tool", "look", place):
        return f"{place} is fine"


def count(text: str) -> dict[str, int]:
    """Count the letters of a text, blocking."""
    with effects.body("tool", "count", text):
        return {"letters": len(text)}


async def note(key: str, value: str, tool_context: ToolContext) -> str:
    """Write something down in the session's state."""
    with effects.body("tool", "note", [key, value]):
        tool_context.state[key] = value
        tool_context.state["notes"] = tool_context.state.get("notes", 0) + 1
        return f"{key} noted"


async def mark(scope: str, value: str, tool_context: ToolContext) -> str:
    """Count in a place of the agent's own, so that other branches do not matter."""
    with effects.body("tool", "mark", [scope, value]):
        key = f"{scope}{tool_context.agent_name}"
        tool_context.state[key] = [*tool_context.state.get(key, []), value]
        return f"{key} marked"


async def pay(amount: int) -> str:
    """Pay."""
    with effects.body("tool", "pay", amount):
        return f"paid {amount}"


PAY = FunctionTool(pay, require_confirmation=True)
"""A tool that runs when a person has said yes."""
