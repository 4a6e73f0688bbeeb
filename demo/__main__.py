"""Starts a database and a worker, enqueues jobs of agents, and tells what happens."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from rich.console import Console

from adk_oban import AdkOban, AgentJob, AgentWorker, ScheduledJob, schema
from adk_oban.embedded import EmbeddedPostgres
from demo.agents import AGENTS, HAS_KEY, INLINE, MODEL
from demo.tools import TOOLS

TEXTS = sorted((Path(__file__).parent / "texts").glob("*.md"))
TIMEOUT = 40.0  # seconds for all of it

console = Console(highlight=False, markup=False, soft_wrap=True)


class Log:
    """What the worker's log says of each job: its attempts' model calls."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()

    async def follow(self, worker: Process) -> None:
        """Read lines until the worker ends; tell of attempts that failed."""
        assert worker.stdout is not None  # noqa: S101
        async for raw in worker.stdout:
            line = raw.decode().strip()
            if not line.startswith("{"):
                console.print(f"  worker: {line}")
                continue
            told = json.loads(line)
            self.calls[told["job_id"]] += told.get("model_calls", 0)
            if "error_message" in told:
                console.print(
                    f"  job {told['job_id']}: attempt {told['attempt']} of "
                    f"{told['max_attempts']} failed: {told['error_message']}"
                )


async def main(files: list[Path]) -> None:
    """Run the tour."""
    began = time.monotonic()
    why = "" if HAS_KEY else " (no GOOGLE_API_KEY: it works by rules, without any AI)"
    console.print(f"The agents' model is {MODEL!r}{why}.")
    async with EmbeddedPostgres() as postgres, asyncio.timeout(TIMEOUT):
        async with await AsyncConnection.connect(postgres.dsn) as conn:
            applied = await schema.migrate(conn)
        console.print(f"Started a PostgreSQL, and applied {len(applied)} migrations.")
        log = Log()
        async with (
            _worker(postgres.dsn, TEXTS[0], log) as worker,
            AdkOban(postgres.dsn, agents=AGENTS, tools=TOOLS) as jobs,
        ):
            console.print(f"Started a worker process, pid {worker.pid}.\n")
            await _tour(jobs, files or TEXTS, log)
    took = time.monotonic() - began
    console.print(f"\nAll done in {took:.1f} s; nothing is left behind.")


async def _tour(jobs: AdkOban, files: list[Path], log: Log) -> None:
    first, asked = files[0], [f"Report on <{file}>." for file in files]
    enqueued = [
        (
            "later, in 3 s",
            await ScheduledJob.schedule("reader", message=asked[0], schedule_in=3),
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
    console.print(f"{len(enqueued)} jobs are enqueued:\n")
    console.print(
        f"{'job':>4}  {'what':<16} {'queue':<16} {'attempts':>8} "
        f"{'model calls':>11} {'duration':>9}  answer"
    )
    tells: list[Coroutine[Any, Any, None]] = [
        _tell(what, job, log) for what, job in enqueued
    ]
    tells.append(_tell_cron(jobs, log))
    await asyncio.gather(*tells)


async def _tell(what: str, job: AgentJob, log: Log) -> None:
    result = await job.result()
    await asyncio.sleep(0)
    took = result.duration.total_seconds() * 1000
    answer = " ".join(result.text.split())
    if len(answer) > 150:
        answer = f"{answer[:149]}…"
    calls = max(log.calls[job.id], result.model_calls)
    console.print(
        f"{job.id:>4}  {what:<16} {job.queue:<16} {result.attempts:>8} "
        f"{calls:>11} {took:>6.0f} ms  {answer}"
    )


async def _tell_cron(jobs: AdkOban, log: Log) -> None:
    """Wait until the schedule has fired, and tell of its first job."""
    while True:
        for job in await jobs.list_jobs(queue="scheduled"):
            if job.meta.get("cron"):
                await _tell(f"cron {job.meta['cron_at'][11:19]}", job, log)
                return
        await asyncio.sleep(0.2)


@asynccontextmanager
async def _worker(dsn: str, file: Path, log: Log) -> AsyncIterator[Process]:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo.worker", dsn, str(file), stdout=PIPE
    )
    assert worker.stdout is not None  # noqa: S101
    following: asyncio.Task[None] | None = None
    try:
        if (await worker.stdout.readline()).strip() != b"ready":
            raise SystemExit("the worker did not start; see above")
        following = asyncio.create_task(log.follow(worker))
        yield worker
    finally:
        if worker.returncode is None:
            worker.terminate()
        await worker.wait()
        if following is not None:
            await following


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
