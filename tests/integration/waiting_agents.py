"""An agent whose tool waits for ever, and can be cancelled."""

from __future__ import annotations

import asyncio

from google.adk.agents import LlmAgent

from adk_oban.testing import ScriptedModel, call


async def wait() -> str:
    """Wait."""
    print("waiting", flush=True)
    await asyncio.Event().wait()
    return "never"


root_agent = LlmAgent(
    name="waiting",
    model=ScriptedModel(replies=lambda _: call("wait")),
    tools=[wait],
)
