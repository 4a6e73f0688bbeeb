"""The demo's worker processes, and what they say of each step."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from adk_oban.telemetry import JOB_EXCEPTION, STEP
from demo.tools import BEGUN

# Where nobody's terminal sets a width, as wide as the tables need.
_WIDTH = None if sys.stdout.isatty() else 120
console = Console(highlight=False, markup=False, soft_wrap=True, width=_WIDTH)


@dataclass(frozen=True, slots=True)
class Told:
    """A line of a worker's about one job.

    Attributes:
        worker: The worker's name.
        at: When it was read, by `time.monotonic`.
        fields: What it says.
    """

    worker: str
    at: float
    fields: dict[str, Any]


class Log:
    """What the workers have said of each job.

    Attributes:
        steps: By job: its steps, in the order in which they were done or replayed.
    """

    def __init__(self) -> None:
        self.steps: dict[int, list[Told]] = defaultdict(list)
        self._begun: dict[int, asyncio.Future[Told]] = {}
        self._news = asyncio.Event()

    async def steps_after_first(self, job_id: int, count: int) -> list[Told]:
        """Wait for so many lines of a job's later attempts, and return them."""
        while True:
            later = [t for t in self.steps[job_id] if t.fields["attempt"] > 1]
            if len(later) >= count:
                return later
            self._news.clear()
            await self._news.wait()

    async def in_slow_tool(self, job_id: int) -> Told:
        """Wait until a worker says that a job's slow tool has begun."""
        return await self._waiter(job_id)

    async def follow(self, name: str, worker: Process) -> None:
        """Read lines until the worker ends; tell of attempts that failed."""
        assert worker.stdout is not None  # noqa: S101
        async for raw in worker.stdout:
            line = raw.decode().strip()
            if not line.startswith("{"):
                console.print(f"  {name}: {line}", style="dim")
                continue
            fields = json.loads(line)
            self._take(Told(name, time.monotonic(), fields))

    def _take(self, told: Told) -> None:
        fields = told.fields
        self._news.set()
        match fields["event"]:
            case event if event == STEP:
                self.steps[fields["job_id"]].append(told)
            case event if event == BEGUN:
                waiter = self._waiter(fields["job_id"])
                if not waiter.done():
                    waiter.set_result(told)
            case event if event == JOB_EXCEPTION:
                console.print(
                    f"  job {fields['job_id']}: attempt {fields['attempt']} of "
                    f"{fields['max_attempts']} failed: {fields['error_message']}",
                    style="yellow",
                )

    def _waiter(self, job_id: int) -> asyncio.Future[Told]:
        if job_id not in self._begun:
            self._begun[job_id] = asyncio.get_running_loop().create_future()
        return self._begun[job_id]


@asynccontextmanager
async def workers(dsn: str, file: Path, log: Log) -> AsyncIterator[dict[str, Process]]:
    """Start two of them at once; give them by their names."""
    async with AsyncExitStack() as stack:
        both = {
            name: await stack.enter_async_context(_worker(name, dsn, file))
            for name in ("worker-1", "worker-2")
        }
        following = []
        for name, worker in both.items():
            assert worker.stdout is not None  # noqa: S101
            if (await worker.stdout.readline()).strip() != b"ready":
                raise SystemExit(f"{name} did not start; see above")
            following.append(asyncio.create_task(log.follow(name, worker)))
        yield both
        await _end([*both.values()])
        await asyncio.gather(*following)


@asynccontextmanager
async def _worker(name: str, dsn: str, file: Path) -> AsyncIterator[Process]:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo.worker", name, dsn, str(file), stdout=PIPE
    )
    try:
        yield worker
    finally:
        await _end([worker])


async def _end(running: list[Process]) -> None:
    for worker in running:
        if worker.returncode is None:
            worker.terminate()
    for worker in running:
        await worker.wait()
