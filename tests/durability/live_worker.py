"""A worker for test_process_death.py: its tool waits for as long as a file is there.

It prints "ready", then "in the tool" for each job that waits, and "done" for each that
has waited to its end. The message "die" kills its process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from google.genai import types

from adk_oban import AdkOban
from adk_oban.testing import ScriptedModel, call


def agent(gate: str) -> LlmAgent:
    async def wait() -> str:
        """Wait at the gate."""
        print("in the tool", flush=True)
        while Path(gate).exists():
            await asyncio.sleep(0.02)
        print("done", flush=True)
        return f"done by {os.getpid()}"

    async def die() -> str:
        """End the process without a word."""
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    def reply(request: LlmRequest) -> str | types.Part:
        part = request.contents[-1].parts[-1]
        if part.function_response:
            return part.function_response.response["result"]
        return call("die" if part.text == "die" else "wait")

    model = ScriptedModel(replies=reply)
    return LlmAgent(name="slow", model=model, tools=[wait, die])


async def main(dsn: str, prefix: str, gate: str, options: dict[str, Any]) -> None:
    ended = asyncio.Event()
    jobs = AdkOban(
        dsn,
        prefix=prefix,
        agents={"slow": agent(gate)},
        **{"queues": {"agents": 20}, "stager": {"interval": 0.1}, **options},
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    async with jobs:
        print("ready", flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], json.loads(sys.argv[4])))
