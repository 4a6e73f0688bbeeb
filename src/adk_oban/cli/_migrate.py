"""`adk-oban migrate`: create, remove or inspect the tables."""

from __future__ import annotations

import click

from adk_oban import schema

from . import _show
from ._command import as_json, command, connection, database_options


@click.group()
def migrate() -> None:
    """Create, remove or inspect the tables."""


@migrate.command("up")
@database_options
@as_json
@command
async def migrate_up(dsn: str | None, prefix: str | None, as_json: bool) -> None:
    """Create the tables, or bring them to this version."""
    async with connection(dsn, prefix) as (conn, schema_name):
        applied = await schema.migrate(conn, prefix=schema_name)
    _show.steps("applied", applied, as_json=as_json)


@migrate.command("down")
@database_options
@click.option("--to", default=0, help="The version to go back to (default 0: all).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@command
async def migrate_down(
    dsn: str | None, prefix: str | None, to: int, yes: bool, as_json: bool
) -> None:
    """Drop the tables, with all jobs and sessions in them."""
    async with connection(dsn, prefix) as (conn, schema_name):
        if not yes:
            click.confirm(
                f"Drop tables of schema {schema_name!r} with all their data?",
                abort=True,
                err=True,
            )
        gone = await schema.rollback(conn, prefix=schema_name, to=to)
    _show.steps("took back", gone, as_json=as_json)


@migrate.command("status")
@database_options
@as_json
@command
async def migrate_status(dsn: str | None, prefix: str | None, as_json: bool) -> None:
    """Show which migrations the database has."""
    async with connection(dsn, prefix) as (conn, schema_name):
        applied = await schema.status(conn, prefix=schema_name)
    _show.migrations(applied, as_json=as_json)
