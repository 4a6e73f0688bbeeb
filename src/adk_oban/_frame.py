"""The tool or node whose body runs, and whether it ran other nodes."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from google.adk.agents.context import Context

frame: ContextVar[Frame | None] = ContextVar("adk_oban_frame", default=None)
"""The innermost one in this context."""


inside: ContextVar[str | None] = ContextVar("adk_oban_inside", default=None)
"""The `AgentTool` whose agent runs in this context: ADK drops what that asks."""


@dataclass(slots=True)
class Frame:
    """A body that runs.

    Attributes:
        of: The context that it was given.
        ran_nodes: Whether it ran other nodes through that. Such a body is run again on
            every attempt, and the steps below it are replayed: what it returns is not
            all that it does, since the events of its nodes go into the session.
        promise: Its promise not to run again, which forbids it to run nodes.
    """

    of: Context
    ran_nodes: bool = False
    promise: str | None = None
