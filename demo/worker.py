"""The demo's worker process: `python -m demo.worker DSN FILE`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from adk_oban import AdkOban, Schedule
from adk_oban.telemetry import attach_logger
from demo.agents import AGENTS
from demo.tools import TOOLS


async def main(dsn: str, file: str) -> None:
    """Work until SIGTERM; each attempt that ends is a line of JSON on stdout."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
    # ADK logs a traceback of each failure; here one line of ours is enough.
    logging.getLogger("google_adk").setLevel(logging.CRITICAL)
    logging.getLogger("adk_oban.jobs").setLevel(logging.INFO)
    attach_logger()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AdkOban(
        dsn,
        queues={"agents": 4, "agents_critical": 2, "scheduled": 2},
        agents=AGENTS,
        tools=TOOLS,
        schedules=[Schedule("*/4 * * * * *", "reader", message=f"Report on <{file}>.")],
        backoff=lambda _job: 1,
    ):
        print("ready", flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
