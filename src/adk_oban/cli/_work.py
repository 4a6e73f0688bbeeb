"""`adk-oban work` and `adk-oban postgres`: what runs until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading

import click

from adk_oban import telemetry
from adk_oban.config import load_settings, parse_agents, parse_queues
from adk_oban.embedded import EmbeddedPostgres, default_data_dir
from adk_oban.runtime import AdkOban

from ._command import agents_option, command, database, database_options

DEFAULT_QUEUES = {"agents": 10, "scheduled": 5}

_EXIT_TIMEOUT = 2.0  # seconds that Python's own end gets after ours


@click.command()
@database_options
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
@click.option(
    "--grace",
    default=15.0,
    help="Seconds that running jobs get at the end (default 15).",
)
@click.option(
    "--rescue-after",
    default=300.0,
    help="Seconds after which a job that still executes is started again, whether its "
    "worker was killed or not: more than your longest job takes (default 300).",
)
@click.option("--log-level", default="INFO", help="Default INFO.")
@command
async def work(
    dsn: str | None,
    prefix: str | None,
    agents: tuple[str, ...],
    queues: tuple[str, ...],
    concurrency: int | None,
    grace: float,
    rescue_after: float,
    log_level: str,
) -> None:
    """Run jobs until SIGTERM or Ctrl-C; running ones get a time of grace."""
    _log(log_level)
    settings = load_settings()
    limits = parse_queues(queues) or settings.queues or DEFAULT_QUEUES
    if grace < 0:
        raise ValueError(f"--grace must be 0 or more, got {grace:g}")
    if concurrency is not None:
        if concurrency < 1:
            raise ValueError(f"--concurrency must be 1 or more, got {concurrency}")
        limits = dict.fromkeys(limits, concurrency)
    ended = _signals()
    async with (
        database(dsn, prefix, settings) as found,
        AdkOban(
            found,
            prefix=prefix,
            queues=limits,
            agents=parse_agents(agents or settings.agents),
            shutdown_grace_period=grace,
            lifeline={"rescue_after": rescue_after},
        ),
    ):
        shown = ", ".join(f"{name}:{limit}" for name, limit in limits.items())
        click.echo(f"working on {shown}; stop with Ctrl-C", err=True)
        await ended.wait()
        click.echo("stopping: running jobs get their time of grace", err=True)
    _leave_blocked_threads()


@click.command()
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


def _signals() -> asyncio.Event:
    """Return an event that SIGTERM and Ctrl-C set."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    return ended


def _leave_blocked_threads() -> None:
    """End the process soon, also when a tool blocks a thread, which Python awaits."""

    def leave() -> None:
        click.echo("a tool still blocks its thread: leaving it behind", err=True)
        os._exit(0)

    timer = threading.Timer(_EXIT_TIMEOUT, leave)
    timer.daemon = True
    timer.start()


def _log(level: str) -> None:
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    if level.upper() != "DEBUG":  # they tell of every request to a model
        for name in ("google_adk", "google_genai"):
            logging.getLogger(name).setLevel(logging.WARNING)
    telemetry.attach_logger()
