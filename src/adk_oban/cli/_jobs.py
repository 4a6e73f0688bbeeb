"""`adk-oban enqueue`, `jobs` and `show`."""

from __future__ import annotations

import json
from typing import Any

import click

from adk_oban._filter import Filters
from adk_oban._unique import UniqueKey
from adk_oban.errors import AdkObanError
from adk_oban.on_complete import Webhook
from adk_oban.results import AgentResult
from adk_oban.runtime import AdkOban
from adk_oban.status import JobStatus
from adk_oban.worker import AgentWorker

from . import _follow, _show
from ._command import (
    Failure,
    agents_option,
    as_json,
    client,
    command,
    database_options,
    parse_agent,
)
from ._filters import filters
from ._times import seconds_of, time_of


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
@click.option(
    "--on-complete",
    multiple=True,
    metavar="URL|JSON",
    help="What follows: a webhook's URL, or a step as JSON. May be repeated.",
)
@click.option("--when-busy", help="reject, interrupt, rollback, merge; else it waits.")
@click.option("--unique", metavar="KEY", help="Once under this key.")
@click.option("--unique-for", help="How long the key stands: seconds, 10m, 2h, 1d.")
@click.option("--stream", is_flag=True, help="Let text be heard as it is made.")
@click.option("--follow", is_flag=True, help="Print what happens, until it has ended.")
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
    on_complete: tuple[str, ...],
    when_busy: str | None,
    unique: str | None,
    unique_for: str | None,
    stream: bool,
    follow: bool,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Enqueue AGENT with MESSAGE.

    AGENT is a name that the workers know, a module, or an inline config as JSON.
    """
    if follow and wait:
        raise ValueError("say one of --follow and --wait")
    async with client(dsn, prefix, agents) as running:
        job = await AgentWorker.enqueue(
            parse_agent(agent),
            user,
            message,
            session_id=session,
            app_name=app,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            schedule_in=None if delay is None else seconds_of("--in", delay),
            scheduled_at=None if at is None else time_of("--at", at),
            when_busy=when_busy,
            unique=_unique(unique, unique_for),
            on_complete=[_step(text) for text in on_complete],
            streaming=stream or None,
        )
        if follow:
            await _follow.watch_to_end(running, job.id, as_json=as_json)
            return
        if not wait:
            _show.job(job, as_json=as_json)
            return
        result = await job.result(timeout=timeout)
    _show.answer(result, as_json=as_json)


@click.command()
@database_options
@click.option("--after", metavar="CURSOR", help="The page that follows, as it is told.")
@click.option("--limit", default=20, help="How many at most, to 1000 (default 20).")
@as_json
@command
@filters
async def jobs(
    dsn: str | None,
    prefix: str | None,
    filters: Filters,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs of agents, newest first."""
    async with client(dsn, prefix) as running:
        page = await running.list_jobs(after=after, limit=limit, **filters)
    _show.page(page, as_json=as_json)


@click.command()
@click.argument("job_id", type=int, metavar="JOB")
@database_options
@as_json
@command
async def show(job_id: int, dsn: str | None, prefix: str | None, as_json: bool) -> None:
    """Show where a job stands, its steps, what it asks, and what it ended with."""
    async with client(dsn, prefix) as running:
        status = await running.get_status(job_id)
        if status is None:
            raise Failure(f"no job {job_id}, and no kept result of one")
        job = await running.get_job(job_id)
        steps = [] if job is None else await job.steps()
        asked = await running.approvals(job_id=job_id)
        result = await _kept(running, status)
    _show.whole_job(job, status, steps, asked, result, as_json=as_json)


async def _kept(client: AdkOban, status: JobStatus) -> AgentResult | Exception | None:
    """Return the result, or the error that a job ended with; None while it runs."""
    if status.ended_at is None:
        return None
    try:
        return await client.get_result(status.job_id)
    except AdkObanError as error:
        return error


def _unique(key: str | None, period: str | None) -> UniqueKey | None:
    if period is None:
        return key
    if key is None:
        raise ValueError(f"--unique-for needs a key: --unique KEY, got {period!r} only")
    return key, seconds_of("--unique-for", period)


def _step(text: str) -> Any:
    if not text.lstrip().startswith("{"):
        return Webhook(text)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"--on-complete is not valid JSON ({error}): {text!r}"
        ) from None
