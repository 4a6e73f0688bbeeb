"""The command line: each command parses, builds a config, and makes one call."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import update_wrapper
from typing import Any

import click
from psycopg import AsyncConnection

from . import _show, schema, telemetry
from ._pool import open_pool
from .config import Settings, load_settings, parse_agents, parse_queues
from .embedded import EmbeddedPostgres, default_data_dir
from .errors import AdkObanError
from .jobs import AgentJob
from .runtime import AdkOban
from .scheduled import Schedule
from .worker import AgentWorker

DEFAULT_QUEUES = {"agents": 10, "scheduled": 5}


class Failure(click.ClickException):
    """An error that is the user's to mend: one clear message, exit code 1."""


def command(run: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async command, and turn our errors into messages."""

    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            asyncio.run(run(*args, **kwargs))
        except (AdkObanError, ValueError, TypeError, LookupError) as error:
            raise Failure(str(error)) from error

    return update_wrapper(wrapped, run)


def database(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the database is."""
    for option in (
        click.option("--dsn", help="PostgreSQL DSN (default: ADK_OBAN_DSN, a file)."),
        click.option("--prefix", help="PostgreSQL schema (default: public)."),
    ):
        function = option(function)
    return function


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
agents_option = click.option(
    "--agents",
    "-a",
    multiple=True,
    metavar="WHAT",
    help="A module or package that may be imported, NAME=MODULE:AGENT, or the path of "
    "an agents folder. May be repeated.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="adk-oban")
def main() -> None:
    """Google ADK agents as durable background jobs on PostgreSQL.

    Without a DSN, commands use an embedded PostgreSQL whose data are kept.
    """
    # As in python -m: agents are modules of the project one stands in.
    if "" not in sys.path:
        sys.path.insert(0, "")


@main.group()
def migrate() -> None:
    """Create, remove or inspect the tables."""


@migrate.command("up")
@database
@command
async def migrate_up(dsn: str | None, prefix: str | None) -> None:
    """Create the tables, or bring them to this version."""
    async with _connection(dsn, prefix) as (conn, schema_name):
        applied = await schema.migrate(conn, prefix=schema_name)
    names = ", ".join(f"{m.version} {m.name}" for m in applied)
    click.echo(f"applied {names}" if applied else "nothing to do")


@migrate.command("down")
@database
@click.option("--to", default=0, help="The version to go back to (default 0: all).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@command
async def migrate_down(dsn: str | None, prefix: str | None, to: int, yes: bool) -> None:
    """Drop the tables, with all jobs and sessions in them."""
    async with _connection(dsn, prefix) as (conn, schema_name):
        if not yes:
            click.confirm(
                f"Drop tables of schema {schema_name!r} with all their data?",
                abort=True,
            )
        gone = await schema.rollback(conn, prefix=schema_name, to=to)
    names = ", ".join(f"{m.version} {m.name}" for m in gone)
    click.echo(f"took back {names}" if gone else "nothing to do")


@migrate.command("status")
@database
@as_json
@command
async def migrate_status(dsn: str | None, prefix: str | None, as_json: bool) -> None:
    """Show which migrations the database has."""
    async with _connection(dsn, prefix) as (conn, schema_name):
        applied = await schema.status(conn, prefix=schema_name)
    _show.migrations(applied, as_json=as_json)


@main.command()
@database
@agents_option
@click.option(
    "--queues",
    "-q",
    multiple=True,
    metavar="NAME:LIMIT",
    help="A queue and how many jobs it runs at once; may be repeated "
    "(default: agents:10 and scheduled:5).",
)
@click.option("--concurrency", "-c", type=int, help="The limit of all queues.")
@click.option("--grace", default=15.0, help="Seconds that running jobs get at the end.")
@click.option("--log-level", default="INFO", help="Default INFO.")
@command
async def work(
    dsn: str | None,
    prefix: str | None,
    agents: tuple[str, ...],
    queues: tuple[str, ...],
    concurrency: int | None,
    grace: float,
    log_level: str,
) -> None:
    """Run jobs until SIGTERM or Ctrl-C; running ones get a time of grace."""
    _log(log_level)
    settings = load_settings()
    limits = parse_queues(queues) or settings.queues or DEFAULT_QUEUES
    if concurrency is not None:
        if concurrency < 1:
            raise ValueError(f"--concurrency must be 1 or more, got {concurrency}")
        limits = dict.fromkeys(limits, concurrency)
    ended = _signals()
    async with (
        _database(dsn, prefix, settings) as found,
        AdkOban(
            found,
            prefix=prefix,
            queues=limits,
            agents=parse_agents(agents or settings.agents),
            shutdown_grace_period=grace,
        ),
    ):
        shown = ", ".join(f"{name}:{limit}" for name, limit in limits.items())
        click.echo(f"working on {shown}; stop with Ctrl-C", err=True)
        await ended.wait()
        click.echo("stopping: running jobs get their time of grace", err=True)
    _leave_blocked_threads()


@main.command()
@click.argument("agent")
@click.argument("message")
@database
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
    async with _client(dsn, prefix, agents):
        job = await AgentWorker.enqueue(
            json.loads(agent) if agent.lstrip().startswith("{") else agent,
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


@main.command()
@database
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
    async with _client(dsn, prefix) as client:
        found = await client.list_jobs(state=state, queue=queue, limit=limit)
    _show.jobs(found, as_json=as_json)


@main.command()
@click.argument("job_id", type=int, metavar="JOB")
@database
@as_json
@command
async def show(job_id: int, dsn: str | None, prefix: str | None, as_json: bool) -> None:
    """Show a job and what it ended with."""
    async with _client(dsn, prefix) as client:
        job = await client.get_job(job_id)
        result = await _kept(client, job, job_id)
    if job is None and result is None:
        raise Failure(f"no job {job_id}, and no kept result of one")
    _show.job_and_result(job, result, as_json=as_json)


@main.group()
def schedule() -> None:
    """Add, list, pause, resume and remove schedules."""


@schedule.command("add")
@click.argument("expression")
@click.argument("agent")
@click.argument("message", default="Run scheduled task")
@database
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
        json.loads(agent) if agent.lstrip().startswith("{") else agent,
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
    async with _client(dsn, prefix) as client:
        stored = await client.schedules.add(made)
    _show.schedules([stored], as_json=as_json)


@schedule.command("list")
@database
@as_json
@command
async def schedule_list(dsn: str | None, prefix: str | None, as_json: bool) -> None:
    """List all schedules."""
    async with _client(dsn, prefix) as client:
        stored = await client.schedules.list()
    _show.schedules(stored, as_json=as_json)


def _schedule_command(verb: str, help: str) -> None:
    @schedule.command(verb, help=help)
    @click.argument("name")
    @database
    @as_json
    @command
    async def change(
        name: str, dsn: str | None, prefix: str | None, as_json: bool
    ) -> None:
        async with _client(dsn, prefix) as client:
            stored = await getattr(client.schedules, verb)(name)
        _show.schedules([] if stored is None else [stored], as_json=as_json)


_schedule_command("pause", "Let a schedule rest, also over deploys.")
_schedule_command("resume", "Let a paused schedule go on with its next tick.")
_schedule_command("remove", "Delete a schedule; its jobs stay.")


@main.command()
@click.option("--data", help="The folder of its data (default: ADK_OBAN_DATA, yours).")
@click.option("--tcp", is_flag=True, help="Listen on a port of 127.0.0.1 too.")
@command
async def postgres(data: str | None, tcp: bool) -> None:
    """Run the embedded PostgreSQL in the foreground, and print its DSN."""
    ended = _signals()
    async with EmbeddedPostgres(data or default_data_dir(), tcp=tcp) as server:
        click.echo(server.dsn)
        click.echo("running; stop with Ctrl-C", err=True)
        await ended.wait()


@asynccontextmanager
async def _database(
    dsn: str | None, prefix: str | None, settings: Settings
) -> AsyncIterator[str]:
    """Give the DSN that is named, or an embedded server's, migrated."""
    if named := dsn or settings.dsn:
        yield named
        return
    folder = default_data_dir()
    click.echo(
        f"no DSN given: using the embedded PostgreSQL of {folder} (--dsn: another)",
        err=True,
    )
    async with EmbeddedPostgres(folder) as server:
        async with await AsyncConnection.connect(server.dsn) as conn:
            await schema.migrate(conn, prefix=prefix or settings.prefix)
        yield server.dsn


@asynccontextmanager
async def _connection(
    dsn: str | None, prefix: str | None
) -> AsyncIterator[tuple[AsyncConnection, str]]:
    settings = load_settings()
    async with _database(dsn, prefix, settings) as found:
        pool = await open_pool(found, max_size=1)
        async with pool, pool.connection() as conn:
            yield conn, prefix or settings.prefix


@asynccontextmanager
async def _client(
    dsn: str | None, prefix: str | None, agents: tuple[str, ...] = ()
) -> AsyncIterator[AdkOban]:
    settings = load_settings()
    known = parse_agents(agents) or None
    async with (
        _database(dsn, prefix, settings) as found,
        AdkOban(found, prefix=prefix, agents=known) as client,
    ):
        yield client


async def _kept(client: AdkOban, job: AgentJob | None, job_id: int) -> Any:
    """Return the result, or the error that a job ended with; None while it runs."""
    if job is not None and job.state not in ("completed", "discarded", "cancelled"):
        return None
    try:
        return await client.get_result(job_id)
    except AdkObanError as error:
        return error


def _signals() -> asyncio.Event:
    """Return an event that SIGTERM and Ctrl-C set."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    return ended


def _leave_blocked_threads() -> None:
    """Do not wait for tools that block: they would keep the process for ever."""
    from concurrent.futures import thread

    blocked = [t for t in threading.enumerate() if t is not threading.main_thread()]
    if blocked:
        click.echo(f"leaving {len(blocked)} blocked threads behind", err=True)
        thread._threads_queues.clear()  # type: ignore[attr-defined]  # what exit waits for


def _log(level: str) -> None:
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    telemetry.attach_logger()


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
