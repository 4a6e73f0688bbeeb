"""A real PostgreSQL for all tests: one server a run, one migrated schema a test."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from adk_oban import AdkOban, schema
from adk_oban.testing import ScriptedModel

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


@pytest.fixture
async def database(server: str) -> AsyncIterator[str]:
    """An empty database of the test's own, for those who use the schema `public`."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    async with await AsyncConnection.connect(server, autocommit=True) as conn:
        await conn.execute(f"CREATE DATABASE {name}")
        yield make_conninfo(server, dbname=name)
        await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder that the server's account can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="adk-oban-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(autouse=True)
def _quiet_adk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the machine's, and no key of the developer's."""
    for name in list(os.environ):
        if name.startswith(("ADK_OBAN_", "GOOGLE_")) and name != "ADK_OBAN_TEST_DSN":
            monkeypatch.delenv(name)


@pytest.fixture
def helper() -> LlmAgent:
    """An agent that repeats what it is told."""
    return LlmAgent(name="helper", model=ScriptedModel(replies=echo))


def echo(request: LlmRequest) -> str:
    return f"You said: {request.contents[-1].parts[-1].text}"


@pytest.fixture
async def client(dsn: str, migrated: str, helper: LlmAgent) -> AsyncIterator[AdkOban]:
    """An AdkOban that only enqueues; `drain` runs its jobs."""
    async with AdkOban(dsn, prefix=migrated, agents={"helper": helper}) as jobs:
        yield jobs


@pytest.fixture
def serve(dsn: str, migrated: str) -> Callable[..., AdkOban]:
    """Makes an AdkOban that works, quickly: serve(agents=..., ...)."""

    def make(**options: Any) -> AdkOban:
        given: dict[str, Any] = {
            "queues": {"agents": 5, "scheduled": 5},
            "backoff": lambda _job: 0,
            "stager": {"interval": 0.05},
            "prefix": migrated,
        }
        return AdkOban(dsn, **{**given, **options})

    return make
