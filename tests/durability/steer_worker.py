"""A worker for test_steer.py: its model thinks for as long as a file is there.

It prints "ready", then "asked TEXT" for each call of the model, "aborted TEXT" for each
that was cut off, and "answered TEXT" for the others.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from adk_oban import AdkOban


def say(what: str, text: str) -> None:
    print(what, text, flush=True)


class Thinker(BaseLlm):
    """A model that first looks, then thinks at a gate, then answers."""

    model: str = "thinker"
    gate: str

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        parts = llm_request.contents[-1].parts
        if parts[-1].function_response is None:
            text = " and ".join(part.text for part in parts)
            call = types.FunctionCall(name="look", args={"text": text})
            yield answer(types.Part(function_call=call))
            return
        text = parts[-1].function_response.response["result"]
        say("asked", text)
        try:
            while Path(self.gate).exists() and "slow" in text:
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            say("aborted", text)
            raise
        say("answered", text)
        yield answer(types.Part(text=f"to {text}"))


def answer(part: types.Part) -> LlmResponse:
    return LlmResponse(content=types.Content(role="model", parts=[part]))


async def look(text: str) -> str:
    """Look at a text."""
    return text


async def main(dsn: str, prefix: str, gate: str) -> None:
    agent = LlmAgent(name="a", model=Thinker(gate=gate), tools=[look])
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    queues, stager = {"agents": 10}, {"interval": 0.1}
    async with AdkOban(
        dsn, prefix=prefix, agents={"a": agent}, queues=queues, stager=stager
    ):
        print("ready", flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
