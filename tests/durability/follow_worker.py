"""A worker for test_follow_fuzz.py: its agent looks in as many places as it is told.

It prints "ready".
"""

from __future__ import annotations

import asyncio
import sys

from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from google.genai import types

from adk_oban import AdkOban
from adk_oban.testing import ScriptedModel, call


def agent() -> LlmAgent:
    async def look(place: int) -> str:
        """Look somewhere, which takes its time."""
        await asyncio.sleep(0.05)
        return f"nothing in {place}"

    def reply(request: LlmRequest) -> str | types.Part:
        places = int(request.contents[0].parts[0].text)
        seen = sum(1 for each in request.contents if each.parts[0].function_response)
        return call("look", place=seen) if seen < places else "Nothing anywhere."

    model = ScriptedModel(replies=reply)
    return LlmAgent(name="looker", model=model, tools=[look])


async def main(dsn: str, prefix: str) -> None:
    jobs = AdkOban(
        dsn,
        prefix=prefix,
        agents={"looker": agent()},
        queues={"agents": 10},
        stager={"interval": 0.1},
    )
    async with jobs:
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
