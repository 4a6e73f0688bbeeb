"""A client for test_steer.py: interrupts a session in a transaction that it never ends.

It prints "ready", then "enqueued", and waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys

from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker


async def main(dsn: str, prefix: str) -> None:
    session = {"app_name": "app", "session_id": "s"}
    async with (
        AdkOban(dsn, prefix=prefix),
        await AsyncConnection.connect(dsn) as conn,
    ):
        print("ready", flush=True)
        await AgentWorker.enqueue(
            "a", "u", "stop", when_busy="rollback", unique="k", conn=conn, **session
        )
        print("enqueued", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
