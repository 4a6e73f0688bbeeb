"""What has run, noted by the workers in a table of the benchmark's own."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

DSN = "ADK_OBAN_BENCH_DSN"
"""The environment variable with the address of the database."""

_CREATE = """
CREATE TABLE soak_runs (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  pid int NOT NULL,
  job int NOT NULL,
  what text NOT NULL,
  began float8 NOT NULL,
  ended float8
)
"""
_BEGIN = """
INSERT INTO soak_runs (pid, job, what, began) VALUES (%s, %s, %s, %s) RETURNING id
"""
_END = "UPDATE soak_runs SET ended = %s WHERE id = %s"
_READ = "SELECT pid, job, what, began, ended FROM soak_runs ORDER BY began, id"


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a tool, or a call of a model.

    Attributes:
        pid: The process that did it.
        job: The number of its job.
        what: Which one: the tool, or the model and how many tools were done.
        began: When it began, in seconds.
        ended: When it ended; None: it did not.
    """

    pid: int
    job: int
    what: str
    began: float
    ended: float | None

    @property
    def is_tool(self) -> bool:
        """Whether it is a tool's."""
        return not self.what.startswith("model")


async def create(conn: AsyncConnection) -> None:
    """Make the table."""
    await conn.execute(_CREATE)


async def read(conn: AsyncConnection) -> Sequence[Run]:
    """Return all runs, by when they began."""
    async with conn.cursor(row_factory=class_row(Run)) as cursor:
        return await (await cursor.execute(_READ)).fetchall()


@asynccontextmanager
async def noted(job: int, what: str) -> AsyncIterator[None]:
    """Note that it begins, and that it has ended; a killed process does not."""
    began = time.time()
    pool = _pool()
    await pool.open()  # does nothing when it is
    async with pool.connection() as conn:
        values = (os.getpid(), job, what, began)
        row = await (await conn.execute(_BEGIN, values)).fetchone()
    yield
    async with pool.connection() as conn:
        await conn.execute(_END, (time.time(), row and row[0]))


@cache
def _pool() -> AsyncConnectionPool:
    options = {"autocommit": True}
    return AsyncConnectionPool(
        os.environ[DSN], min_size=1, max_size=4, kwargs=options, open=False
    )
