"""A schema, a folder and a connection for the jobs of one harness."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from google.adk.artifacts import FileArtifactService
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import make_conninfo

from adk_oban import AdkOban, schema

from .effects import effects
from .zoo import Kind

_CLEARED = (
    "oban_jobs",
    "events",
    "sessions",
    "app_states",
    "user_states",
    "adk_oban_results",
    "adk_oban_steps",
    "adk_oban_approvals",
    "adk_oban_events",
    "ledger",
)
USER = "visitor"
SESSION = "visit"


@dataclass(frozen=True, slots=True)
class Rig:
    """Where jobs run.

    Attributes:
        dsn: The database, in which the schema is found first.
        prefix: The schema.
        folder: Where files are.
        conn: A connection to look with.
    """

    dsn: str
    prefix: str
    folder: Path
    conn: Connection

    def clear(self) -> None:
        """Forget all jobs and sessions."""
        sql = "; ".join(f"DELETE FROM {table}" for table in _CLEARED)
        self.conn.execute(sql)
        effects.open(self.folder / "effects")
        effects.clear()

    def serve(self, kind: Kind, **options: Any) -> AdkOban:
        """Return an AdkOban that knows the agent; with `queues` it works."""
        given: dict[str, Any] = {
            "agents": {kind.name: kind.make()},
            "prefix": self.prefix,
            "backoff": lambda _job: 0,
            "stager": {"interval": 0.05},
            "pool_size": 4,
            "artifact_service": FileArtifactService(self.folder / "artifacts"),
        }
        return AdkOban(self.dsn, **{**given, **options})


@contextmanager
def rig(server: str, prefix: str, folder: Path, *, keep: bool = False) -> Iterator[Rig]:
    """Make a migrated schema on a server; it is dropped at the end, unless kept."""
    folder.mkdir(parents=True, exist_ok=True)
    dsn = searching(server, prefix)
    asyncio.run(_migrate(dsn, prefix))
    try:
        # Children share it, and know nothing of each other's prepared statements.
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
            conn.execute("CREATE TABLE ledger (entry text NOT NULL)")
            yield Rig(dsn, prefix, folder, conn)
    finally:
        if not keep:
            with psycopg.connect(server, autocommit=True) as conn:
                conn.execute(f"DROP SCHEMA IF EXISTS {prefix} CASCADE")


def searching(server: str, prefix: str) -> str:
    """Return a DSN whose connections find a schema first."""
    return make_conninfo(server, options=f"-c search_path={prefix},public")


async def _migrate(dsn: str, prefix: str) -> None:
    async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
        await schema.migrate(conn, prefix=prefix)
