"""Migrations: versioned, additive, safe to start anywhere at once."""

from __future__ import annotations

import asyncio

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from psycopg import AsyncConnection, sql
from sqlalchemy import create_engine, text

from adk_oban import schema
from adk_oban.errors import NotMigratedError, SchemaVersionError

VERSIONS = [migration.version for migration in schema.MIGRATIONS]


async def tables(conn: AsyncConnection, prefix: str) -> set[str]:
    rows = await conn.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s",
        (prefix,),
    )
    return {name for (name,) in await rows.fetchall()}


async def test_migrate_makes_obans_tables_adks_and_ours(conn, prefix):
    applied = await schema.migrate(conn, prefix=prefix)

    assert [m.version for m in applied] == VERSIONS
    assert await tables(conn, prefix) == {
        "oban_jobs",
        "oban_leaders",
        "oban_producers",
        "sessions",
        "events",
        "app_states",
        "user_states",
        "adk_internal_metadata",
        "adk_oban_migrations",
        "adk_oban_results",
        "adk_oban_producers",
        "adk_oban_schedules",
        "adk_oban_steps",
        "adk_oban_events",
        "adk_oban_approvals",
        "adk_oban_uniques",
        "adk_oban_fan_in_jobs",
        "adk_oban_fan_ins",
    }
    await schema.check(conn, prefix=prefix)


async def test_migrate_again_has_nothing_to_do(conn, migrated):
    assert await schema.migrate(conn, prefix=migrated) == []


async def test_ten_nodes_may_migrate_at_once(dsn, prefix):
    async def node() -> int:
        async with await AsyncConnection.connect(dsn) as conn:
            return len(await schema.migrate(conn, prefix=prefix))

    applied = await asyncio.gather(*(node() for _ in range(10)))

    assert sorted(applied) == [0] * 9 + [len(VERSIONS)]


async def test_rollback_drops_everything_that_migrate_made(conn, migrated):
    gone = await schema.rollback(conn, prefix=migrated)

    assert [m.version for m in gone] == VERSIONS[::-1]
    assert await tables(conn, migrated) == set()
    assert await schema.status(conn, prefix=migrated) == []


async def test_rollback_to_a_version_keeps_what_is_below_it(conn, migrated):
    await schema.rollback(conn, prefix=migrated, to=2)

    assert {"oban_jobs", "sessions"} <= await tables(conn, migrated)
    assert "adk_oban_results" not in await tables(conn, migrated)
    assert len(await schema.migrate(conn, prefix=migrated)) == len(VERSIONS) - 2


async def test_tables_that_were_there_before_survive_a_rollback(conn, prefix):
    await conn.execute(f"CREATE SCHEMA {prefix}; SET search_path TO {prefix}")
    await conn.execute(schema.install_sql(prefix))
    await schema.migrate(conn, prefix=prefix)
    await schema.rollback(conn, prefix=prefix)

    assert {"oban_jobs", "oban_leaders"} <= await tables(conn, prefix)
    assert "sessions" not in await tables(conn, prefix)


async def test_a_database_that_is_not_migrated_names_the_command(conn, prefix):
    with pytest.raises(NotMigratedError) as caught:
        await schema.check(conn, prefix=prefix)

    assert f"adk-oban migrate up --prefix {prefix}" in str(caught.value)


async def test_a_database_of_a_newer_version_is_refused(conn, migrated):
    await conn.execute(
        f"INSERT INTO {migrated}.adk_oban_migrations VALUES (99, 'future', false)"
    )

    with pytest.raises(SchemaVersionError, match="version 99"):
        await schema.check(conn, prefix=migrated)
    with pytest.raises(SchemaVersionError, match="upgrade adk-oban"):
        await schema.migrate(conn, prefix=migrated)


async def test_tables_of_another_program_are_refused_and_left_alone(conn, prefix):
    await conn.execute(f"CREATE SCHEMA {prefix}")
    await conn.execute(f"CREATE TABLE {prefix}.sessions (cookie text)")

    with pytest.raises(SchemaVersionError, match="another program"):
        await schema.migrate(conn, prefix=prefix)
    assert await tables(conn, prefix) == {"sessions"}


async def test_sessions_of_another_adk_version_are_refused(conn, migrated):
    await conn.execute(f"UPDATE {migrated}.adk_internal_metadata SET value = '2'")

    with pytest.raises(SchemaVersionError, match="schema version '2'"):
        await schema.check(conn, prefix=migrated)


async def test_a_reserved_word_is_refused_as_prefix(conn):
    with pytest.raises(SchemaVersionError, match="reserved word"):
        await schema.migrate(conn, prefix="user")


@pytest.mark.parametrize("name", ["", "Public", "a-b", 'x"; DROP', "pg_x", "a" * 48])
async def test_an_unusable_prefix_is_refused_before_any_sql(conn, name):
    with pytest.raises(ValueError, match="prefix must be"):
        await schema.migrate(conn, prefix=name)


async def test_migrate_leaves_the_search_path_as_it_was(conn, prefix):
    async with conn.transaction():
        await conn.execute("SET LOCAL search_path TO pg_catalog")
        await schema.migrate(conn, prefix=prefix)
        row = await (await conn.execute("SHOW search_path")).fetchone()

    assert row == ("pg_catalog",)


def test_alembic_runs_the_same_migrations(server, prefix):
    url = sql_alchemy_url(server)
    engine = create_engine(url)
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        op.execute(schema.upgrade_sql(prefix))
        op.execute(schema.upgrade_sql(prefix))
        count = connection.execute(
            text(f"SELECT count(*) FROM {prefix}.adk_oban_migrations")
        )
        assert count.scalar() == len(VERSIONS)
        op.execute(schema.downgrade_sql(prefix))
    engine.dispose()


def sql_alchemy_url(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://", 1)


def test_every_migration_has_a_way_back():
    for migration in schema.MIGRATIONS:
        assert sql.SQL(migration.down("public", existed=False)).as_string()
