"""A worker for test_stop.py: its agents ask Gemini, and their tools wait at a file.

It prints "ready", and "in the tool" when a tool begins.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

from google.adk.agents import LlmAgent

from adk_oban import AdkOban


def agent(gate: Path) -> LlmAgent:
    async def wait() -> str:
        """Wait at the gate, and leave a mark when it is left."""
        print("in the tool", flush=True)
        try:
            while gate.exists():
                await asyncio.sleep(0.02)
        finally:
            await asyncio.sleep(0.01)
            gate.with_name("left").touch()
        return "waited"

    def block() -> str:
        """Block a thread at the gate."""
        print("in the tool", flush=True)
        while gate.exists():
            time.sleep(0.02)
        gate.with_name("went on").touch()
        return "blocked"

    return LlmAgent(name="slow", model="gemini-flash-latest", tools=[wait, block])


async def main(dsn: str, prefix: str, gate: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    options = {"queues": {"agents": 20}, "stager": {"interval": 0.1}}
    agents = {"slow": agent(Path(gate))}
    async with AdkOban(dsn, prefix=prefix, agents=agents, **options):
        print("ready", flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
