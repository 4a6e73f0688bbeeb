"""A worker for test_follow_up.py, whose agents say what they hear; prints "ready"."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest

from adk_oban import AdkOban
from adk_oban.testing import ScriptedModel


def reply(request: LlmRequest) -> str:
    return "|".join(part.text for part in request.contents[-1].parts)


def agents() -> dict[str, LlmAgent]:
    names = ("writer", "reviewer", "publisher")
    return {n: LlmAgent(name=n, model=ScriptedModel(replies=reply)) for n in names}


async def main(dsn: str, prefix: str, options: dict[str, Any]) -> None:
    ended = asyncio.Event()
    jobs = AdkOban(
        dsn,
        prefix=prefix,
        agents=agents(),
        backoff=lambda _job: 0,
        **{"queues": {"agents": 20}, "stager": {"interval": 0.1}, **options},
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with jobs:
        print("ready", flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
