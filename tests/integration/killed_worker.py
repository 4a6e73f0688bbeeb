"""A worker for test_kill.py: its agent's tool waits for as long as a file is there."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from google.genai import types

from adk_oban import AdkOban
from adk_oban.testing import ScriptedModel, call


async def main(dsn: str, prefix: str, gate: str) -> None:
    async def slow() -> str:
        """Wait at the gate."""
        print("in the tool", flush=True)
        while Path(gate).exists():
            await asyncio.sleep(0.02)
        return f"done by {os.getpid()}"

    def reply(request: LlmRequest) -> str | types.Part:
        part = request.contents[-1].parts[-1]
        if part.function_response:
            return part.function_response.response["result"]
        return call("slow")

    agent = LlmAgent(name="slow", model=ScriptedModel(replies=reply), tools=[slow])
    async with AdkOban(
        dsn,
        prefix=prefix,
        queues={"agents": 2},
        agents={"slow": agent},
        leadership=False,
        stager={"interval": 0.1},
    ):
        print("ready", flush=True)
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
