"""A real PostgreSQL for all tests: one server a run, one migrated schema a test."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from adk_oban import schema

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The DSN of the server; ADK_OBAN_TEST_DSN names one that runs already."""
    if dsn := os.environ.get("ADK_OBAN_TEST_DSN"):
        yield dsn
        return
    from adk_oban.embedded import EmbeddedPostgres

    with EmbeddedPostgres() as postgres:
        yield postgres.dsn


@pytest.fixture
async def prefix(server: str) -> AsyncIterator[str]:
    """An empty schema of the test's own; `migrated` has the tables in it."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    yield name
    async with await AsyncConnection.connect(server, autocommit=True) as conn:
        await conn.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def dsn(server: str, prefix: str) -> str:
    """A DSN whose connections find the test's own schema first."""
    return make_conninfo(server, options=f"-c search_path={prefix},public")


@pytest.fixture
async def conn(dsn: str) -> AsyncIterator[AsyncConnection]:
    async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def migrated(conn: AsyncConnection, prefix: str) -> str:
    """The test's own schema with all tables; returns its name."""
    await schema.migrate(conn, prefix=prefix)
    return prefix
