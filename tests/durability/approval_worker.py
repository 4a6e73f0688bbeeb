"""A worker for test_approvals.py: its agent asks before it pays, then thinks at a gate.

It prints "ready", "paid N" when the tool runs, and "thinking" with the time when the
model reads what came of it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.tools import FunctionTool
from google.genai import types

from adk_oban import AdkOban
from adk_oban.testing import call


class Clerk(BaseLlm):
    """Asks to pay each amount of its message at once, and says what was paid."""

    model: str = "clerk"
    gate: Path

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        parts = llm_request.contents[-1].parts or []
        yield LlmResponse(
            content=types.Content(role="model", parts=await self._say(parts))
        )

    async def _say(self, parts: list[types.Part]) -> list[types.Part]:
        if text := parts[0].text:
            amounts = [int(word) for word in text.split() if word.isdigit()]
            return [call("pay", amount=n) for n in amounts] or [types.Part(text="-")]
        print("thinking", time.time(), flush=True)
        while self.gate.exists():
            await asyncio.sleep(0.01)
        said = [part.function_response.response for part in parts]
        return [types.Part(text=json.dumps(said))]


async def pay(amount: int) -> dict[str, int]:
    """Pay."""
    print("paid", amount, flush=True)
    return {"paid": amount}


async def main(dsn: str, prefix: str, gate: str, options: dict[str, Any]) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    tools = [FunctionTool(pay, require_confirmation=True)]
    agent = LlmAgent(name="clerk", model=Clerk(gate=Path(gate)), tools=tools)
    given = {"queues": {"agents": 20}, **options}
    async with AdkOban(dsn, prefix=prefix, agents={"clerk": agent}, **given):
        print("ready", flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], json.loads(sys.argv[4])))
