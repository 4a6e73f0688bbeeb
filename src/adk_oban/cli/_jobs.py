"""`adk-oban enqueue`, `jobs` and `show`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click

from adk_oban.errors import AdkObanError
from adk_oban.jobs import AgentJob
from adk_oban.runtime import AdkOban
from adk_oban.worker import AgentWorker

from . import _show
from ._command import (
    Failure,
    agents_option,
    as_json,
    client,
    command,
    database_options,
    parse_agent,
)


@click.command()
@click.argument("agent")
@click.argument("message")
@database_options
@agents_option
@click.option("--user", default="cli", help="ADK's user id (default: cli).")
@click.option("--session", help="ADK's session id (default: a new one).")
@click.option("--app", help="ADK's app name (default: the App's, else adk_oban).")
@click.option("--queue", default="agents", help="Default: agents.")
@click.option("--priority", type=int, default=2, help="0 (first) to 9; default 2.")
@click.option("--max-attempts", type=int, default=3, help="Default 3.")
@click.option("--in", "delay", help="Later: seconds, or such as 90s, 10m, 2h, 1d.")
@click.option("--at", help="Later: an ISO time with its zone.")
@click.option("--wait", is_flag=True, help="Wait for the answer, and print it.")
@click.option("--timeout", type=float, help="How many seconds to wait.")
@as_json
@command
async def enqueue(
    agent: str,
    message: str,
    dsn: str | None,
    prefix: str | None,
    agents: tuple[str, ...],
    user: str,
    session: str | None,
    app: str | None,
    queue: str,
    priority: int,
    max_attempts: int,
    delay: str | None,
    at: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Enqueue AGENT with MESSAGE.

    AGENT is a name that the workers know, a module, or an inline config as JSON.
    """
    async with client(dsn, prefix, agents):
        job = await AgentWorker.enqueue(
            parse_agent(agent),
            user,
            message,
            session_id=session,
            app_name=app,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            schedule_in=None if delay is None else _seconds(delay),
            scheduled_at=None if at is None else _time(at),
        )
        if not wait:
            _show.job(job, as_json=as_json)
            return
        result = await job.result(timeout=timeout)
    _show.answer(result, as_json=as_json)


@click.command()
@database_options
@click.option("--state", help="Only jobs in this state.")
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--limit", default=20, help="How many at most (default 20).")
@as_json
@command
async def jobs(
    dsn: str | None,
    prefix: str | None,
    state: str | None,
    queue: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs of agents, newest first."""
    async with client(dsn, prefix) as running:
        found = await running.list_jobs(state=state, queue=queue, limit=limit)
    _show.jobs(found, as_json=as_json)


@click.command()
@click.argument("job_id", type=int, metavar="JOB")
@database_options
@as_json
@command
async def show(job_id: int, dsn: str | None, prefix: str | None, as_json: bool) -> None:
    """Show a job and what it ended with."""
    async with client(dsn, prefix) as running:
        job = await running.get_job(job_id)
        result = await _kept(running, job, job_id)
    if job is None and result is None:
        raise Failure(f"no job {job_id}, and no kept result of one")
    _show.job_and_result(job, result, as_json=as_json)


async def _kept(client: AdkOban, job: AgentJob | None, job_id: int) -> Any:
    """Return the result, or the error that a job ended with; None while it runs."""
    if job is not None and job.state not in ("completed", "discarded", "cancelled"):
        return None
    try:
        return await client.get_result(job_id)
    except AdkObanError as error:
        return error


def _seconds(text: str) -> timedelta:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        return timedelta(seconds=float(number) * units[unit])
    except (ValueError, OverflowError):
        raise ValueError(
            f"--in must be seconds, or such as 90s, 10m, 2h, 1d, got {text!r}"
        ) from None


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"--at must be an ISO time such as 2030-01-31T09:00+01:00, got {text!r}"
        ) from None
