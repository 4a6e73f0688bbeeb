"""A client for test_approvals.py: a person who says yes to one question.

It prints "ready", answers when it is told a line, and prints what became of it.
"""

from __future__ import annotations

import asyncio
import sys

from adk_oban import AdkOban
from adk_oban.errors import AlreadyAnsweredError


async def main(dsn: str, prefix: str, job_id: str, approval_id: str, name: str) -> None:
    async with AdkOban(dsn, prefix=prefix) as jobs:
        job = await jobs.get_job(int(job_id))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        try:
            answered = await job.approve(int(approval_id), by=name)
        except AlreadyAnsweredError as error:
            print("refused", error.state, error.answered_by, flush=True)
        else:
            print(answered.state, answered.answered_by, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
