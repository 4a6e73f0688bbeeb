"""`adk-oban work` and `adk-oban postgres`: what runs until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import click

from adk_oban.config import load_settings, parse_agents, parse_queues
from adk_oban.embedded import EmbeddedPostgres, default_data_dir
from adk_oban.runtime import AdkOban

from . import _show
from ._command import (
    Failure,
    agents_option,
    as_json,
    command,
    database,
    database_options,
)
from ._log import log
from ._processes import Processes

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
    help="Seconds that running jobs get at the end (default 15); what still runs then "
    "is handed back. A second signal ends them at once.",
)
@click.option(
    "--rescue-after",
    default=300.0,
    help="Seconds after which a job is started again that a node without adk-oban (or "
    "with an older one) still executes; jobs of this version's are started again when "
    "their process is dead, and only then (default 300).",
)
@click.option("--direct-dsn", help="DSN without a pooler such as pgbouncer in between.")
@click.option(
    "--processes",
    "-p",
    type=click.IntRange(min=1),
    default=1,
    help="How many processes work, each with these limits (default 1).",
)
@click.option("--parent", type=int, hidden=True)
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
    direct_dsn: str | None,
    processes: int,
    parent: int | None,
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
    signals = _Signals()
    async with database(dsn, prefix, settings, logger.info) as found:
        if processes > 1:
            await _work_in(processes, found, signals)
            return
        jobs = AdkOban(
            found,
            direct_dsn=direct_dsn,
            prefix=prefix,
            queues=limits,
            agents=parse_agents(agents or settings.agents),
            shutdown_grace_period=grace,
            lifeline={"rescue_after": rescue_after},
        )
        signals.again = jobs.hurry
        async with jobs:
            shown = ", ".join(f"{name}:{limit}" for name, limit in limits.items())
            logger.info("working on %s; stop with Ctrl-C", shown)
            await _end_of(signals.ended, parent)
            logger.info("stopping: running jobs get their time of grace")
    _leave_blocked_threads()


@click.command()
@click.option("--data", help="The folder of its data (default: ADK_OBAN_DATA, yours).")
@click.option("--tcp", is_flag=True, help="Listen on a port of 127.0.0.1 too.")
@as_json
@command
async def postgres(data: str | None, tcp: bool, as_json: bool) -> None:
    """Run the embedded PostgreSQL in the foreground, and print its DSN."""
    signals = _Signals()
    async with EmbeddedPostgres(data or default_data_dir(), tcp=tcp) as server:
        _show.dsn(server.dsn, as_json=as_json)
        click.echo("running; stop with Ctrl-C", err=True)
        await signals.ended.wait()


class _Signals:
    """SIGTERM and Ctrl-C: the first one sets `ended`, each further one calls `again`.

    Attributes:
        ended: Whether it is time to end.
        each: Called with each signal.
        again: Called at the second one, and at further ones.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.each: Callable[[int], object] = lambda _: None
        self.again: Callable[[], object] = lambda: None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._got, number)

    def _got(self, number: int) -> None:
        if self.ended.is_set():
            self.again()
        self.ended.set()
        self.each(number)


async def _work_in(count: int, dsn: str, signals: _Signals) -> None:
    # Of two equal options the later one counts.
    arguments = [*sys.argv[1:], "--processes", "1", "--parent", str(os.getpid())]
    env = {"ADK_OBAN_DSN": dsn}
    made = Processes(arguments, count, env=env, ended=signals.ended)
    signals.each = made.signal
    logger.info("starting %d worker processes; stop with Ctrl-C", count)
    if not await made.run():
        raise Failure("the worker processes fail as soon as they are started")


async def _end_of(ended: asyncio.Event, parent: int | None) -> None:
    """Wait for the end, which is also that of the process that started this one."""
    while parent is not None and os.getppid() == parent and not ended.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 1.0)
    if parent is None:
        await ended.wait()


def _leave_blocked_threads() -> None:
    """End the process soon, also when a tool blocks a thread, which Python awaits."""

    def leave() -> None:
        logger.warning("a tool still blocks its thread: leaving it behind")
        os._exit(0)

    timer = threading.Timer(_EXIT_TIMEOUT, leave)
    timer.daemon = True
    timer.start()
