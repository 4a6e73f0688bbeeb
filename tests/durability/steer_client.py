"""A client for test_steer.py: enqueues many messages, and prints their jobs' ids.

It prints "ready", and begins when it is told a line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from adk_oban import AdkOban, AgentWorker
from adk_oban.errors import SessionBusyError


async def enqueue(message: str, options: dict[str, Any]) -> int | None:
    if isinstance(options.get("unique"), list):
        options = {**options, "unique": tuple(options["unique"])}
    try:
        job = await AgentWorker.enqueue("a", "u", message, **options)
    except SessionBusyError:
        return None
    return job.id


async def main(dsn: str, prefix: str, name: str, count: int, options: Any) -> None:
    async with AdkOban(dsn, prefix=prefix):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        # One after another, so that the order of each process can be told.
        ids = [await enqueue(f"{name}{n}", options) for n in range(count)]
        print(json.dumps(ids), flush=True)


if __name__ == "__main__":
    dsn, prefix, name, count, options = sys.argv[1:6]
    asyncio.run(main(dsn, prefix, name, int(count), json.loads(options)))
