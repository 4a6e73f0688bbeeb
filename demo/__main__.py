"""Starts a database and two workers, enqueues jobs, and tells what happens."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentJob, AgentWorker, ScheduledJob, schema
from adk_oban.embedded import EmbeddedPostgres
from demo.agents import AGENTS, HAS_KEY, INLINE, MODEL
from demo.crash import crash
from demo.tools import TOOLS
from demo.worker import CRON
from demo.workers import Log, console, workers

TEXTS = sorted((Path(__file__).parent / "texts").glob("*.md"))
TIMEOUT = 50.0  # seconds for all of it
_ANSWER_AT = 73  # where answers begin in a line


async def main(files: list[Path]) -> None:
    """Run the tour, and then the crash."""
    began = time.monotonic()
    why = "" if HAS_KEY else " (no GOOGLE_API_KEY: it works by rules, without any AI)"
    console.print(f"The agents' model is {MODEL!r}{why}.")
    async with EmbeddedPostgres() as postgres, asyncio.timeout(TIMEOUT):
        async with await AsyncConnection.connect(postgres.dsn) as conn:
            applied = await schema.migrate(conn)
        console.print(f"Started a PostgreSQL, and applied {len(applied)} migrations.")
        log = Log()
        async with (
            workers(postgres.dsn, TEXTS[0], log) as running,
            AdkOban(postgres.dsn, agents=AGENTS, tools=TOOLS) as jobs,
        ):
            pids = [f"{name} (pid {one.pid})" for name, one in running.items()]
            console.print(f"Started two worker processes: {' and '.join(pids)}.\n")
            await _tour(jobs, files or TEXTS)
            await jobs.schedules.pause(CRON)
            await crash(jobs, (files or TEXTS)[-1], running, log)
    took = time.monotonic() - began
    console.print(f"\nAll done in {took:.1f} s; nothing is left behind.")


async def _tour(jobs: AdkOban, files: list[Path]) -> None:
    first, asked = files[0], [f"Report on <{file}>." for file in files]
    enqueued = [
        (
            "later, in 2 s",
            await ScheduledJob.schedule("reader", message=asked[0], schedule_in=2),
        ),
        *[("at once", await AgentWorker.enqueue("reader", "demo", m)) for m in asked],
        (
            "priority queue",
            await AgentWorker.enqueue(
                "reader", "demo", asked[-1], queue="agents_critical", priority=0
            ),
        ),
        (
            "inline config",
            await AgentWorker.enqueue(INLINE, "demo", f"Count <{first}>."),
        ),
        ("a failing model", await AgentWorker.enqueue("unlucky", "demo", asked[0])),
    ]
    console.rule(f"{len(enqueued)} jobs and a schedule", align="left")
    console.print(
        f"{'job':>4}  {'what':<16} {'queue':<16} {'attempts':>8} "
        f"{'model calls':>11} {'replayed':>8}  answer",
        style="bold",
    )
    tells: list[Coroutine[Any, Any, None]] = [
        _tell(what, job) for what, job in enqueued
    ]
    tells.append(_tell_cron(jobs))
    await asyncio.gather(*tells)


async def _tell(what: str, job: AgentJob) -> None:
    result = await job.result()
    answer = " ".join(result.text.split())
    room = max(console.width - _ANSWER_AT, 44)
    if len(answer) > room:
        answer = f"{answer[: room - 1]}…"
    console.print(
        f"{job.id:>4}  {what:<16} {job.queue:<16} {result.attempts:>8} "
        f"{result.model_calls:>11} {result.steps['replayed']:>8}  {answer}"
    )


async def _tell_cron(jobs: AdkOban) -> None:
    """Wait until the schedule has fired, and tell of its first job."""
    while True:
        for job in await jobs.list_jobs(queue="scheduled"):
            if job.meta.get("cron"):
                await _tell(f"cron {job.meta['cron_at'][11:19]}", job)
                return
        await asyncio.sleep(0.2)


def _files(arguments: list[str]) -> list[Path]:
    # Named from where ./dev was called, which need not be here.
    called_from = Path(os.environ.get("ADK_OBAN_CALLED_FROM", "."))
    files = [(called_from / argument).resolve() for argument in arguments]
    for file in files:
        if not file.is_file():
            raise SystemExit(f"demo: there is no file {str(file)!r}")
    return files


if __name__ == "__main__":
    asyncio.run(main(_files(sys.argv[1:])))
