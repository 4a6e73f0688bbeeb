"""How jobs ended: kept in a table of ours, longer than the jobs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from google.adk.events import Event
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from pydantic_core import to_jsonable_python

from ._clock import naive_utc
from ._codec import encode
from ._connection import autocommit, fetch
from ._query import statement


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: a row of `adk_oban_results`.

    Attributes:
        job_id: The job's id.
        state: `"completed"`, `"discarded"` or `"cancelled"`.
        attempt: The attempt that ended it.
        agent: The name of the agent that ran.
        app_name: ADK's app name.
        user_id: ADK's user id.
        session_id: ADK's session id.
        invocation_id: ADK's id of the invocation; None when it did not start.
        text: The final answer.
        output: The structured output, None without one.
        session_state: The session's state after the turn.
        usage: Sums of the model's token counts, under genai's names.
        event_count: How many events the agents made.
        model_calls: How many model calls the last attempt made.
        error_code: The model's error code, such as `"SAFETY"`.
        error: Why there is no answer.
        steps: How many were `live`, `replayed` and `changed`, how many model calls were
            live (`live_model_calls`), and what was not paid again (`saved`).
        began_at: When the first part of the invocation began, where it paused.
        started_at: When the last attempt started.
        finished_at: When it ended.
    """

    job_id: int
    state: str
    attempt: int
    agent: str
    app_name: str
    user_id: str
    session_id: str
    started_at: datetime
    invocation_id: str | None = None
    text: str = ""
    output: Any = None
    session_state: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)
    event_count: int = 0
    model_calls: int = 0
    error_code: str | None = None
    error: str | None = None
    steps: dict[str, Any] = field(default_factory=dict)
    began_at: datetime | None = None
    finished_at: datetime | None = None

    def to_json(self) -> str:
        """Return it as JSON text that jsonb takes."""
        times = {"began_at": self.began_at, "started_at": self.started_at}
        iso = {name: time and time.isoformat() for name, time in times.items()}
        values = {**asdict(self), **iso}
        try:
            return encode(values)
        except TypeError:  # a state may hold anything; the session has it likewise
            plain = to_jsonable_python(
                values, bytes_mode="base64", serialize_unknown=True
            )
            return encode(plain)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands, and what it ended with; either may be gone.

    Attributes:
        job_state: Oban's state of the job; None when it has been pruned.
        job_attempt: Its attempt.
        job_error: Its last error.
        result_state: The kept result's state; None while there is none.
        result_attempt: The attempt that made it.
        result_error: Why there is no answer.
    """

    job_state: str | None
    job_attempt: int | None
    job_error: str | None
    result_state: str | None
    result_attempt: int | None
    result_error: str | None

    @property
    def ended(self) -> bool:
        """Whether the job has ended, for good unless somebody retries it."""
        if self.job_state is None:
            return self.result_state is not None
        return self.job_state in ("completed", "discarded", "cancelled")


class Results:
    """The table of results.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix

    async def save(
        self,
        outcome: Outcome,
        *,
        attempted_at: datetime | None = None,
        conn: AsyncConnection | None = None,
    ) -> None:
        """Keep how a job ended, in place of what an earlier run of it left.

        Args:
            outcome: How it ended.
            attempted_at: When the attempt began that says so, if it must be the job's
                own still; otherwise nothing is kept.
            conn: A connection of the caller's, to write it in its transaction.
        """
        values = {**asdict(outcome), "attempted_at": attempted_at}
        values["output"] = None if outcome.output is None else Jsonb(outcome.output)
        values["session_state"] = Jsonb(outcome.session_state)
        values["usage"] = Jsonb(outcome.usage)
        values["steps"] = Jsonb(outcome.steps)
        sql = statement("save_result", self._prefix)
        if conn is not None:
            await conn.execute(sql, values)
            return
        async with self._pool.connection() as own:
            await own.execute(sql, values)

    async def get(self, job_id: int) -> Outcome | None:
        """Return how a job ended, or None."""
        sql = statement("get_result", self._prefix)
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=class_row(Outcome)) as cursor,
        ):
            return await (await cursor.execute(sql, {"job_id": job_id})).fetchone()

    async def progress(self, job_id: int) -> Progress:
        """Return where a job stands."""
        sql = statement("get_progress", self._prefix)
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=class_row(Progress)) as cursor,
        ):
            row = await (await cursor.execute(sql, {"job_id": job_id})).fetchone()
        assert row is not None  # noqa: S101  (the statement always has one row)
        return row

    async def events(self, outcome: Outcome) -> list[Event]:
        """Return the turn's events as they stand in the session, none if it is gone."""
        values = {
            "app_name": outcome.app_name,
            "user_id": outcome.user_id,
            "session_id": outcome.session_id,
            "invocation_id": outcome.invocation_id,
            # Clocks of nodes and database differ; an hour of the session is enough.
            "since": naive_utc(
                (outcome.began_at or outcome.started_at) - timedelta(hours=1)
            ),
        }
        async with autocommit(self._pool) as conn:
            rows = await fetch(conn, statement("get_turn_events", self._prefix), values)
        return [Event.model_validate(data) for (data,) in rows]

    async def prune(self, max_age: timedelta, *, limit: int = 10_000) -> int:
        """Delete results older than `max_age`, at most `limit`; return how many."""
        async with self._pool.connection() as conn:
            sql = statement("prune_results", self._prefix)
            done = await conn.execute(sql, {"max_age": max_age, "limit": limit})
        return done.rowcount
