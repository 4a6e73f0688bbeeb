"""The PostgreSQL of a run, and a fresh database in it for each measurement."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oban import Job
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from adk_oban import schema
from adk_oban.embedded import EmbeddedPostgres

_TEMPLATE = "bench_template"

# Each job has a session of its own; there are a hundred users.
_INSERT = """
INSERT INTO oban_jobs (worker, queue, state, max_attempts, priority, meta, args)
SELECT %(worker)s, %(queue)s, 'available', %(max_attempts)s, %(priority)s, %(meta)s,
  %(args)s::jsonb || jsonb_build_object(
    'user_id', 'user-' || number %% 100,
    'session_id', %(session)s || '-' || number
  )
FROM generate_series(1, %(count)s) AS number
"""

_COPY_SESSIONS = """
INSERT INTO sessions (app_name, user_id, id, state, create_time, update_time)
SELECT app_name, 'user-' || number %% 100, %(session)s || '-' || number, state,
  create_time, update_time
FROM sessions, generate_series(1, %(count)s) AS number WHERE id = 'seed'
"""

_COPY_EVENTS = """
INSERT INTO events
  (id, app_name, user_id, session_id, invocation_id, "timestamp", event_data)
SELECT id, app_name, 'user-' || number %% 100, %(session)s || '-' || number,
  invocation_id, "timestamp", event_data
FROM events, generate_series(1, %(count)s) AS number WHERE session_id = 'seed'
"""

_LEFT = """
SELECT count(*) FROM oban_jobs
WHERE queue = %s AND state NOT IN ('completed', 'discarded', 'cancelled')
"""

_END = """
SELECT extract(epoch FROM max(completed_at))::float8 FROM oban_jobs WHERE queue = %s
"""

_FAILED = "SELECT errors ->> 0 FROM oban_jobs WHERE queue = %s AND errors <> '[]'"


@dataclass(frozen=True, slots=True)
class Database:
    """A fresh database with all tables.

    Attributes:
        dsn: Where it is.
        conn: A connection to it, in autocommit.
    """

    dsn: str
    conn: AsyncConnection

    async def insert(
        self, job: Job, count: int, *, queue: str, session: str = "bench"
    ) -> None:
        """Make so many copies of a job available, each with a session of its own."""
        values = {
            "worker": job.worker,
            "queue": queue,
            "max_attempts": job.max_attempts,
            "priority": job.priority,
            "meta": Jsonb(job.meta),
            "args": json.dumps(job.args),
            "session": session,
            "count": count,
        }
        await self.conn.execute(_INSERT, values)

    async def copy_session(self, session: str, count: int) -> None:
        """Make so many copies of the session named `seed`."""
        values = {"session": session, "count": count}
        async with self.conn.transaction():
            await self.conn.execute(_COPY_SESSIONS, values)
            await self.conn.execute(_COPY_EVENTS, values)

    async def settle(self) -> None:
        """Leave nothing of the preparation for the measured time."""
        await self.conn.execute("VACUUM ANALYZE")
        await self.conn.execute("CHECKPOINT")

    async def drained(self, queue: str, *, seconds: float = 90) -> float:
        """Wait until a queue's jobs have ended; return when, in seconds.

        Raises:
            TimeoutError: They did not in time.
            RuntimeError: One failed.
        """
        deadline = time.monotonic() + seconds
        while await self.one(_LEFT, queue):
            if failed := await self.one(_FAILED, queue):
                raise RuntimeError(f"a job of {queue!r} failed: {failed}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"jobs of {queue!r} are left after {seconds:g} s")
            await asyncio.sleep(0.05)
        if failed := await self.one(_FAILED, queue):
            raise RuntimeError(f"a job of {queue!r} failed: {failed}")
        return float(await self.one(_END, queue))

    async def one(self, query: str, *values: Any) -> Any:
        """Return the first column of the first row."""
        row = await (await self.conn.execute(query, values)).fetchone()
        return None if row is None else row[0]


class Server:
    """The embedded PostgreSQL, with fsync on, in a folder that is deleted at the end.

    Attributes:
        version: Its version.
        postmaster: The id of its first process.
    """

    def __init__(self) -> None:
        self.version = ""
        self.postmaster = 0
        # A folder that the server's account can enter; one of ours is without fsync.
        self._folder = tempfile.TemporaryDirectory(prefix="adk-oban-bench-")
        Path(self._folder.name).chmod(0o755)
        self._postgres = EmbeddedPostgres(Path(self._folder.name, "data"))
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Server:
        await asyncio.to_thread(self._postgres.start)
        async with await self._connect() as conn:
            await conn.execute(f"CREATE DATABASE {_TEMPLATE}")
            settings = (
                "SELECT current_setting('fsync'), current_setting('server_version')"
            )
            row = await (await conn.execute(settings)).fetchone()
            if row is None or row[0] != "on":
                raise RuntimeError(f"the benchmark needs fsync on, got {row!r}")
            self.version = row[1].split()[0]
            read = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int"
            pid = await (await conn.execute(read)).fetchone()
            self.postmaster = 0 if pid is None else pid[0]
        async with await self._connect(_TEMPLATE) as conn:
            await schema.migrate(conn)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._postgres.stop)
        self._folder.cleanup()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """A fresh database, dropped at the end."""
        name = f"bench_{next(self._numbers)}"
        async with await self._connect() as conn:
            await conn.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
            try:
                async with await self._connect(name) as own:
                    yield Database(self._dsn(name), own)
            finally:
                await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _dsn(self, database: str) -> str:
        return self._postgres.dsn.replace("/postgres?", f"/{database}?")

    async def _connect(self, database: str = "postgres") -> AsyncConnection:
        dsn = self._dsn(database)
        return await AsyncConnection.connect(dsn, autocommit=True)
