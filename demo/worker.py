"""A worker process of the demo: `python -m demo.worker NAME DSN FILE`."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from typing import Any

from oban import telemetry as oban_telemetry

from adk_oban import AdkOban, Schedule, telemetry
from demo.agents import AGENTS
from demo.tools import BEGUN, TOOLS

CRON = "every-4-seconds"
TOLD = (telemetry.STEP, telemetry.JOB_EXCEPTION, BEGUN)


async def main(name: str, dsn: str, file: str) -> None:
    """Work until SIGTERM; each step that is done is a line of JSON on stdout."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
    # ADK logs a traceback of each failure; here one line of ours is enough.
    logging.getLogger("google_adk").setLevel(logging.CRITICAL)
    oban_telemetry.attach("demo", list(TOLD), _tell)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    message = f"Report on <{file}>."
    async with AdkOban(
        dsn,
        node=name,
        queues={"agents": 4, "agents_critical": 2, "scheduled": 2},
        agents=AGENTS,
        tools=TOOLS,
        schedules=[Schedule("*/4 * * * * *", "reader", message=message, name=CRON)],
        backoff=lambda _job: 1,
    ):
        print("ready", flush=True)
        await ended.wait()


def _tell(event: str, fields: dict[str, Any]) -> None:
    shown = {key: value for key, value in fields.items() if key not in ("args", "meta")}
    print(json.dumps({"event": event, **shown}, default=str), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
