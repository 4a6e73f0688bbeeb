"""An agent whose tool blocks its thread for ever."""

from __future__ import annotations

import threading

from google.adk.agents import LlmAgent

from adk_oban.testing import ScriptedModel, call


def block() -> str:
    """Block."""
    print("blocked", flush=True)
    threading.Event().wait()
    return "never"


root_agent = LlmAgent(
    name="blocking",
    model=ScriptedModel(replies=lambda _: call("block")),
    tools=[block],
)
