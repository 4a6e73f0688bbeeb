"""One visit: the messages of a kind, one job each; the last is the one to crash."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg_pool import PoolTimeout

from adk_oban import AdkOban, AgentWorker, _oban
from adk_oban.jobs import AgentJob

from .effects import effects
from .rig import SESSION, USER
from .zoo import Kind

TIMEOUT = 20.0  # seconds
_ENDED = ("completed", "discarded", "cancelled")
_MAX_ATTEMPTS = 8
_FAR = (datetime.now(UTC) + timedelta(days=3650)).replace(tzinfo=None)


async def enqueue(kind: Kind, message: str) -> AgentJob:
    """Enqueue one message."""
    return await AgentWorker.enqueue(
        kind.name,
        USER,
        message,
        app_name=kind.app_name,
        session_id=SESSION,
        runner_opts=kind.runner_opts,
    )


async def earlier(
    kind: Kind, finish: Callable[[Kind, AgentJob], Awaitable[None]]
) -> None:
    """Run the turns before the one to crash."""
    for message in kind.messages[:-1]:
        await finish(kind, await enqueue(kind, message))
    effects.clear()


async def run_here(
    kind: Kind, jobs: AdkOban, job: AgentJob, after: Callable[[], None] = lambda: None
) -> None:
    """Run a job to its end, attempt by attempt, and look after each."""
    for _ in range(_MAX_ATTEMPTS):
        await _oban.stage(jobs.oban, "agents", before=_FAR)
        await _oban.run_next(jobs.oban, "agents")
        after()
        job = await job.reload()
        await answer(kind, job)
        if job.state in _ENDED:
            return
    raise AssertionError(f"not ended after {_MAX_ATTEMPTS} attempts: {job}")


async def await_end(kind: Kind, job: AgentJob, timeout: float = TIMEOUT) -> None:
    """Wait until workers have run a job to its end, through outages of the server."""
    deadline = time.monotonic() + timeout
    while job.state not in _ENDED:
        assert time.monotonic() < deadline, f"not ended in {timeout} s: {job}"
        await asyncio.sleep(0.01)
        with suppress(psycopg.OperationalError, PoolTimeout):
            job = await job.reload()
            await answer(kind, job)


async def answer(kind: Kind, job: AgentJob) -> None:
    """Be the person whom the job asks something."""
    match job.meta.get("adk_oban_waits") if job.state == "scheduled" else None:
        case "approval":
            await _approve(kind, job)
        case "decision":
            await _decide(kind, job)


async def _approve(kind: Kind, job: AgentJob) -> None:
    for asked in (await job.status()).approvals:
        if kind.response is None:
            await job.approve(asked)
        else:
            await job.respond(asked, kind.response)


async def _decide(kind: Kind, job: AgentJob) -> None:
    """Say what became of a tool with an unknown outcome."""
    ran = {name for _, name, _ in effects.begun()}
    for step in await job.undecided():
        if step.tool in ran:
            await job.decide(step.id, result=kind.never_twice[step.tool])
        else:
            await job.decide(step.id, again=True)
