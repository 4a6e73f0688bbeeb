"""What all commands share: options, errors, and the way to the database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial, update_wrapper
from typing import Any

import click
from psycopg import AsyncConnection

from adk_oban import schema
from adk_oban._pool import open_pool
from adk_oban.config import Settings, load_settings, parse_agents
from adk_oban.embedded import EmbeddedPostgres, default_data_dir
from adk_oban.errors import AdkObanError
from adk_oban.runtime import AdkOban


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


def database_options(function: Callable[..., Any]) -> Callable[..., Any]:
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


@asynccontextmanager
async def database(
    dsn: str | None,
    prefix: str | None,
    settings: Settings,
    tell: Callable[[str], object] | None = None,
) -> AsyncIterator[str]:
    """Give the DSN that is named, or an embedded server's, migrated."""
    if named := dsn or settings.dsn:
        yield named
        return
    folder = default_data_dir()
    tell = tell or partial(click.echo, err=True)
    tell(f"no DSN given: using the embedded PostgreSQL of {folder} (--dsn: another)")
    async with EmbeddedPostgres(folder) as server:
        async with await AsyncConnection.connect(server.dsn) as conn:
            await schema.migrate(conn, prefix=prefix or settings.prefix)
        yield server.dsn


@asynccontextmanager
async def connection(
    dsn: str | None, prefix: str | None
) -> AsyncIterator[tuple[AsyncConnection, str]]:
    settings = load_settings()
    async with database(dsn, prefix, settings) as found:
        pool = await open_pool(found, max_size=1)
        async with pool, pool.connection() as conn:
            yield conn, prefix or settings.prefix


@asynccontextmanager
async def client(
    dsn: str | None, prefix: str | None, agents: tuple[str, ...] = ()
) -> AsyncIterator[AdkOban]:
    settings = load_settings()
    known = parse_agents(agents) or None
    async with (
        database(dsn, prefix, settings) as found,
        AdkOban(found, prefix=prefix, agents=known) as client,
    ):
        yield client


def parse_agent(text: str) -> Any:
    """Return an agent as it is named, or the inline config that the text is.

    Raises:
        ValueError: It begins like a config, and is not JSON.
    """
    if not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"AGENT is not valid JSON ({error}): {text!r}") from None
