"""`adk-oban work` and `adk-oban postgres`: what runs until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading

import click

from adk_oban.config import load_settings, parse_agents, parse_queues
from adk_oban.embedded import EmbeddedPostgres, default_data_dir
from adk_oban.runtime import AdkOban

from . import _show
from ._command import agents_option, as_json, command, database, database_options
from ._log import log

logger = logging.getLogger(__name__)

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
@as_json
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
    as_json: bool,
) -> None:
    """Run jobs until SIGTERM or Ctrl-C; running ones get a time of grace.

    It logs a line for each attempt that ends, on stderr; with --json all of its log is
    lines of JSON.
    """
    log(log_level, as_json=as_json)
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
        database(dsn, prefix, settings, logger.info) as found,
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
        logger.info("working on %s; stop with Ctrl-C", shown)
        await ended.wait()
        logger.info("stopping: running jobs get their time of grace")
    _leave_blocked_threads()


@click.command()
@click.option("--data", help="The folder of its data (default: ADK_OBAN_DATA, yours).")
@click.option("--tcp", is_flag=True, help="Listen on a port of 127.0.0.1 too.")
@as_json
@command
async def postgres(data: str | None, tcp: bool, as_json: bool) -> None:
    """Run the embedded PostgreSQL in the foreground, and print its DSN."""
    ended = _signals()
    async with EmbeddedPostgres(data or default_data_dir(), tcp=tcp) as server:
        _show.dsn(server.dsn, as_json=as_json)
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
        logger.warning("a tool still blocks its thread: leaving it behind")
        os._exit(0)

    timer = threading.Timer(_EXIT_TIMEOUT, leave)
    timer.daemon = True
    timer.start()
