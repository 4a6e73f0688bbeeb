"""The database schema: Oban's tables, ADK's session tables and ours, versioned.

`adk-oban migrate` does what `migrate` here does. A project that uses Alembic puts
`upgrade_sql` into a migration of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import LiteralString

from oban.schema import install_sql, uninstall_sql
from psycopg import AsyncConnection, DatabaseError
from psycopg.errors import UndefinedTable
from psycopg.rows import class_row

from ._query import bind, statement, validate_prefix
from .errors import NotMigratedError, SchemaVersionError

_REFUSED = "AO001"  # the SQLSTATE that our migrations raise when they refuse


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that the database has.

    Attributes:
        version: Its number.
        name: What it brought.
        existed: Whether its tables were there before, so that going down leaves them.
        applied_at: When it was applied.
    """

    version: int
    name: str
    existed: bool
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema, additive, so that older nodes keep working.

    Attributes:
        version: Its number; they are applied in order.
        name: What it brings.
        table: A table of it, which tells whether somebody else made it before.
    """

    version: int
    name: str
    table: str

    def up(self, prefix: str) -> LiteralString:
        """Return the statements that apply it and note that it was applied."""
        made = install_sql(prefix) if self.name == "oban" else self._file("")
        return bind(self._mark("000_note.sql") + made, prefix)

    def down(self, prefix: str, *, existed: bool) -> LiteralString:
        """Return the statements that take it back; what `existed` before stays."""
        drop = uninstall_sql(prefix) if self.name == "oban" else self._file(".down")
        forget = self._mark("000_forget.sql")
        return bind(forget if existed else drop + forget, prefix)

    def _mark(self, name: str) -> str:
        # Not str.format: the schema's marker is bound later.
        sql = _read(name).replace("{version}", str(self.version))
        return sql.replace("{name}", self.name).replace("{table}", self.table)

    def _file(self, suffix: str) -> str:
        return _read(f"{self.version:03}_{self.name}{suffix}.sql")


MIGRATIONS = (
    Migration(1, "oban", "oban_jobs"),
    Migration(2, "adk_sessions", "sessions"),
    Migration(3, "results", "adk_oban_results"),
    Migration(4, "schedules", "adk_oban_schedules"),
    Migration(5, "steps", "adk_oban_steps"),
    Migration(6, "producers", "adk_oban_producers"),
    Migration(7, "live_jobs", "adk_oban_events"),
)


@cache
def _read(name: str) -> str:
    return files("adk_oban").joinpath("migrations", name).read_text("utf-8")


def upgrade_sql(prefix: str = "public") -> str:
    """Return the SQL that brings a database to this version, from any older one.

    It is one script of many statements, to be run inside a transaction, and it may be
    run again: what is there already is left alone.

    Args:
        prefix: The PostgreSQL schema for the tables (default `"public"`).

    Raises:
        ValueError: `prefix` is not a usable schema name.

    Example:
        In an Alembic migration:

        >>> def upgrade() -> None:
        ...     op.execute(upgrade_sql())
    """
    return _script([m.up(prefix) for m in MIGRATIONS], prefix)


def downgrade_sql(prefix: str = "public", *, keep: Sequence[str] = ()) -> str:
    """Return the SQL that drops the tables **and all jobs and sessions in them**.

    Args:
        prefix: The PostgreSQL schema of the tables (default `"public"`).
        keep: Names of migrations whose tables stay, such as `["adk_sessions"]` where
            ADK had made them before.

    Raises:
        ValueError: `prefix` is not a usable schema name.
    """
    return _script(
        [m.down(prefix, existed=m.name in keep) for m in reversed(MIGRATIONS)], prefix
    )


async def migrate(conn: AsyncConnection, *, prefix: str = "public") -> list[Migration]:
    """Bring the database to this version, in one transaction.

    Safe to call from any number of processes at once: they take turns, and the later
    ones find nothing to do.

    Args:
        conn: A connection; when a transaction is open on it, that one is used.
        prefix: The PostgreSQL schema for the tables (default `"public"`). It is
            created when missing.

    Returns:
        The migrations that were applied, none when the schema was up to date.

    Raises:
        SchemaVersionError: The schema holds sessions of another ADK version, tables of
            another program, or was migrated by a newer adk-oban.
        ValueError: `prefix` is not a usable schema name.

    Example:
        >>> async with await AsyncConnection.connect(dsn) as conn:
        ...     await migrate(conn)
    """
    try:
        async with conn.transaction():
            await conn.execute(bind(_read("000_prologue.sql"), validate_prefix(prefix)))
            applied = {row.version for row in await status(conn, prefix=prefix)}
            pending = [m for m in MIGRATIONS if m.version not in applied]
            for migration in pending:
                await conn.execute(migration.up(prefix))
            await conn.execute(bind(_read("999_epilogue.sql"), prefix))
    except DatabaseError as error:
        raise _refusal(error) or error from error
    return pending


async def rollback(
    conn: AsyncConnection, *, prefix: str = "public", to: int = 0
) -> list[Migration]:
    """Take migrations back, newest first: **their tables are dropped with all data**.

    Tables that were there before the first migration (Oban's or ADK's own) stay.

    Args:
        conn: A connection; when a transaction is open on it, that one is used.
        prefix: The PostgreSQL schema of the tables (default `"public"`).
        to: The version to go back to (default 0: all of them).

    Returns:
        The migrations that were taken back.

    Raises:
        ValueError: `prefix` is not a usable schema name.
    """
    async with conn.transaction():
        applied = {row.version: row for row in await status(conn, prefix=prefix)}
        gone = [
            m for m in reversed(MIGRATIONS) if to < m.version and m.version in applied
        ]
        if gone:
            await conn.execute(bind(_read("000_prologue.sql"), prefix))
        for migration in gone:
            existed = applied[migration.version].existed
            await conn.execute(migration.down(prefix, existed=existed))
        if gone:
            await conn.execute(bind(_read("999_epilogue.sql"), prefix))
        if gone and to <= 0:
            await conn.execute(bind("DROP TABLE {schema}.adk_oban_migrations", prefix))
    return gone


async def status(conn: AsyncConnection, *, prefix: str = "public") -> list[Applied]:
    """Return the migrations that the database has, in order; none when it is new.

    Raises:
        SchemaVersionError: It has one that this version of adk-oban does not know.
        ValueError: `prefix` is not a usable schema name.
    """
    sql = statement("get_migrations", validate_prefix(prefix))
    try:
        async with conn.transaction(), conn.cursor(row_factory=class_row(Applied)) as c:
            rows = await (await c.execute(sql)).fetchall()
    except UndefinedTable:
        return []
    newest = MIGRATIONS[-1].version
    if rows and rows[-1].version > newest:
        raise SchemaVersionError(
            f"schema {prefix!r} is at version {rows[-1].version} "
            f"({rows[-1].name}), and this adk-oban knows versions up to {newest}: "
            "upgrade adk-oban here"
        )
    return rows


async def check(conn: AsyncConnection, *, prefix: str = "public") -> None:
    """Refuse a database that this version cannot work with.

    Raises:
        NotMigratedError: Tables are missing; the message names the command.
        SchemaVersionError: They are of a newer version, or of another ADK version.
        ValueError: `prefix` is not a usable schema name.
    """
    applied = {row.version for row in await status(conn, prefix=prefix)}
    missing = [m.name for m in MIGRATIONS if m.version not in applied]
    if missing:
        option = "" if prefix == "public" else f" --prefix {prefix}"
        raise NotMigratedError(
            f"database {conn.info.dbname!r} is not migrated: schema {prefix!r} lacks "
            f"{', '.join(missing)}. Run: adk-oban migrate up{option}"
        )
    async with conn.transaction():
        sql = statement("get_session_schema_version", prefix)
        row = await (await conn.execute(sql)).fetchone()
    if row != ("1",):
        raise SchemaVersionError(
            f"schema {prefix!r} holds ADK sessions of schema version "
            f"{row[0] if row else None!r}, and adk-oban needs version '1': migrate "
            "them with 'adk migrate session', or use another prefix"
        )


def _script(steps: Sequence[str], prefix: str) -> str:
    prologue, epilogue = _read("000_prologue.sql"), _read("999_epilogue.sql")
    validate_prefix(prefix)
    return "\n".join([bind(prologue, prefix), *steps, bind(epilogue, prefix)])


def _refusal(error: DatabaseError) -> SchemaVersionError | None:
    if error.sqlstate != _REFUSED:
        return None
    return SchemaVersionError(error.diag.message_primary or str(error))
