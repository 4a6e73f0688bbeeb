"""`adk-oban schedule`: add, list, pause, resume and remove schedules."""

from __future__ import annotations

from typing import Any

import click

from adk_oban.scheduled import Schedule

from . import _show
from ._command import as_json, client, command, database_options, parse_agent


@click.group()
def schedule() -> None:
    """Add, list, pause, resume and remove schedules."""


@schedule.command("add")
@click.argument("expression")
@click.argument("agent")
@click.argument("message", default="Run scheduled task")
@database_options
@click.option("--name", default="", help="Default: the agent and the expression.")
@click.option("--timezone", default="UTC", help="An IANA name (default: UTC).")
@click.option("--missed", default="skip", help="skip (default) or run_once.")
@click.option("--user", default="system", help="ADK's user id (default: system).")
@click.option("--session", help="One ADK session for all jobs (default: new ones).")
@click.option("--queue", default="scheduled", help="Default: scheduled.")
@click.option("--priority", type=int, default=2, help="0 (first) to 9; default 2.")
@click.option("--max-attempts", type=int, default=3, help="Default 3.")
@as_json
@command
async def schedule_add(
    expression: str,
    agent: str,
    message: str,
    dsn: str | None,
    prefix: str | None,
    name: str,
    timezone: str,
    missed: Any,
    user: str,
    session: str | None,
    queue: str,
    priority: int,
    max_attempts: int,
    as_json: bool,
) -> None:
    """Let AGENT get MESSAGE at each tick of the cron EXPRESSION."""
    made = Schedule(
        expression,
        parse_agent(agent),
        message=message,
        name=name,
        timezone=timezone,
        missed=missed,
        user_id=user,
        session_id=session,
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
    )
    async with client(dsn, prefix) as running:
        stored = await running.schedules.add(made)
    _show.schedules([stored], as_json=as_json)


@schedule.command("list")
@database_options
@as_json
@command
async def schedule_list(dsn: str | None, prefix: str | None, as_json: bool) -> None:
    """List all schedules."""
    async with client(dsn, prefix) as running:
        stored = await running.schedules.list()
    _show.schedules(stored, as_json=as_json)


def _schedule_command(verb: str, help: str) -> None:
    @schedule.command(verb, help=help)
    @click.argument("name")
    @database_options
    @as_json
    @command
    async def change(
        name: str, dsn: str | None, prefix: str | None, as_json: bool
    ) -> None:
        async with client(dsn, prefix) as running:
            stored = await getattr(running.schedules, verb)(name)
        if stored is None and not as_json:
            click.echo(f"removed {name}")
            return
        _show.schedules([] if stored is None else [stored], as_json=as_json)


_schedule_command("pause", "Let a schedule rest, also over deploys.")
_schedule_command("resume", "Let a paused schedule go on with its next tick.")
_schedule_command("remove", "Delete a schedule; its jobs stay.")
