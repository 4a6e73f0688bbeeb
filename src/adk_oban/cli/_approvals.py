"""`adk-oban approvals`, `approve`, `reject` and `respond`: what agents ask people."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from getpass import getuser
from typing import Any

import click

from adk_oban.jobs import AgentJob

from . import _show
from ._command import Failure, as_json, client, command, database_options


@click.command()
@database_options
@click.option("--state", default="open", help="open (default), all, approved, …")
@click.option("--job", type=int, help="Only those of this job.")
@click.option("--user", help="Only those of this user.")
@click.option("--session", help="Only those of this session.")
@click.option("--app", help="Only those of this app.")
@click.option("--agent", help="Only those that this agent asks.")
@click.option("--tool", help="Only those about this tool.")
@click.option("--kind", help="confirmation, long_running, input, credential, decision.")
@click.option("--after", default=0, help="Only those after this number.")
@click.option("--limit", default=50, help="How many at most (default 50).")
@as_json
@command
async def approvals(
    dsn: str | None,
    prefix: str | None,
    state: str,
    job: int | None,
    user: str | None,
    session: str | None,
    app: str | None,
    agent: str | None,
    tool: str | None,
    kind: str | None,
    after: int,
    limit: int,
    as_json: bool,
) -> None:
    """List what agents ask people, the one that waits longest first."""
    async with client(dsn, prefix) as running:
        found = await running.approvals(
            state=None if state == "all" else state,
            job_id=job,
            user_id=user,
            session_id=session,
            app_name=app,
            agent=agent,
            tool=tool,
            kind=kind,
            after=after,
            limit=limit,
        )
    _show.approvals(found, as_json=as_json)


@click.command()
@click.argument("approval_id", type=int, metavar="ID")
@click.option("--payload", metavar="JSON", help="What the tool finds in its context.")
@click.option("--args", "edited", metavar="JSON", help="What it runs with instead.")
@click.option("--by", help="Who says so (default: your user name).")
@database_options
@as_json
@command
async def approve(
    approval_id: int,
    payload: str | None,
    edited: str | None,
    by: str | None,
    dsn: str | None,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Let the tool run that ID is about; its job goes on.

    Of a tool that runs once, and may have run: it did not, and is run again.
    """
    given, args = _value("--payload", payload), _value("--args", edited)
    async with _asking(dsn, prefix, approval_id) as job:
        answered = await job.approve(
            approval_id, payload=given, edited_args=args, by=by or _user()
        )
    _show.answered(answered, as_json=as_json)


@click.command()
@click.argument("approval_id", type=int, metavar="ID")
@click.option("--reason", help="Why, for the agent to read.")
@click.option("--by", help="Who says so (default: your user name).")
@database_options
@as_json
@command
async def reject(
    approval_id: int,
    reason: str | None,
    by: str | None,
    dsn: str | None,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Refuse what ID asks for; its job goes on."""
    async with _asking(dsn, prefix, approval_id) as job:
        answered = await job.reject(approval_id, reason, by=by or _user())
    _show.answered(answered, as_json=as_json)


@click.command()
@click.argument("approval_id", type=int, metavar="ID")
@click.argument("response", metavar="JSON")
@click.option("--by", help="Who says so (default: your user name).")
@database_options
@as_json
@command
async def respond(
    approval_id: int,
    response: str,
    by: str | None,
    dsn: str | None,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Give the agent what ID asks for, as JSON; its job goes on."""
    value = _value("JSON", response)
    async with _asking(dsn, prefix, approval_id) as job:
        answered = await job.respond(approval_id, value, by=by or _user())
    _show.answered(answered, as_json=as_json)


@asynccontextmanager
async def _asking(
    dsn: str | None, prefix: str | None, approval_id: int
) -> AsyncIterator[AgentJob]:
    """Give the job that asks."""
    async with client(dsn, prefix) as running:
        approval = await running.get_approval(approval_id)
        job = None if approval is None else await running.get_job(approval.job_id)
        if job is None:
            raise Failure(f"no approval {approval_id}; 'adk-oban approvals' lists them")
        yield job


def _value(name: str, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not valid JSON ({error}): {text!r}") from None


def _user() -> str | None:
    try:
        return getuser()
    except (KeyError, OSError):  # nobody has a name in a bare container
        return None
