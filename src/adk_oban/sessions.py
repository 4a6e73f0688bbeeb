"""ADK's session service on PostgreSQL, in ADK's own tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, LiteralString, Self

from google.adk.errors._stale_session_error import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event
from google.adk.platform import time as platform_time
from google.adk.platform import uuid as platform_uuid
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.base_session_service import (
    GetSessionConfig,
    ListSessionsResponse,
)
from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from . import schema
from ._codec import decode, decode_event, encode_event, encode_state, merge_state
from ._connection import autocommit, fetch
from ._pool import open_pool
from ._query import statement, validate_prefix

_Opener = Callable[[], Awaitable[AsyncConnectionPool]]


class PostgresSessionService(BaseSessionService):
    """Keeps ADK sessions in PostgreSQL, one round trip for each operation.

    It shares its tables with ADK's `DatabaseSessionService`: what one writes, the
    other reads, and either notices that the other wrote. It differs where that helps:

    - Events with equal timestamps keep the order in which they were appended, for
      readers of either service: a row's `timestamp` is moved on by a microsecond where
      it must be. The event's own timestamp stays as it is.
    - A session's `update_time` only grows, so that a writer that missed an event is
      noticed also when that event's timestamp is an old one.
    - Characters that PostgreSQL cannot hold (NUL, lone surrogates) are replaced by
      U+FFFD, and NaN and infinities by null, in events and state; ids with a NUL are
      refused.
    - The same event twice is an AlreadyExistsError.

    Args:
        pool: Connections to a migrated database; opened and closed by the caller.
        prefix: The PostgreSQL schema of the tables (default `"public"`).

    Raises:
        NotMigratedError: At the first use: the tables are missing.
        SchemaVersionError: At the first use: they are of another version.
        ValueError: `prefix` is not a usable schema name.

    Example:
        >>> async with PostgresSessionService.from_dsn(dsn) as sessions:
        ...     runner = Runner(app=app, session_service=sessions)
    """

    def __init__(
        self, pool: AsyncConnectionPool | _Opener, *, prefix: str = "public"
    ) -> None:
        self._prefix = validate_prefix(prefix)
        self._given = pool
        self._pool: AsyncConnectionPool | None = None
        self._opening = asyncio.Lock()

    @classmethod
    def from_dsn(cls, dsn: str, *, prefix: str = "public", max_size: int = 10) -> Self:
        """Return a service with a pool of its own, opened when it is first used.

        Args:
            dsn: Where the database is.
            prefix: The PostgreSQL schema of the tables (default `"public"`).
            max_size: How many connections there may be (default 10).

        Raises:
            DatabaseUnavailableError: At the first use: there is no connection.
            ValueError: `prefix` is not a usable schema name.

        Example:
            >>> sessions = PostgresSessionService.from_dsn("postgresql:///my_app")
            >>> await sessions.close()
        """
        return cls(partial(open_pool, dsn, max_size=max_size), prefix=prefix)

    async def close(self) -> None:
        """Close the pool, if it is the service's own; another use opens another."""
        async with self._opening:
            pool, self._pool = self._pool, None
            if pool is not None and pool is not self._given:
                await pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session.

        Args:
            app_name: The app's name.
            user_id: The user's id.
            state: What it starts with; `user:` and `app:` keys change their scopes.
            session_id: Its id (default: a random one).

        Raises:
            AlreadyExistsError: There is one of this id; nothing was changed.
        """
        now = _naive(platform_time.get_time())
        if session_id is None:
            session_id = platform_uuid.new_uuid()
        key = _key(app_name, user_id, session_id)
        values = {**key, **encode_state(state or {}), "now": now}
        rows = await self._run("create_session", values)
        if not rows:
            raise AlreadyExistsError(f"Session with id {session_id} already exists.")
        return _session(key, now, merge_state(*rows[0]))

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """Return a session with its events, or None.

        Args:
            app_name: The app's name.
            user_id: The user's id.
            session_id: The session's id.
            config: Which events (default: all of them).
        """
        config = config or GetSessionConfig()
        key = _key(app_name, user_id, session_id)
        after = config.after_timestamp
        asked = {
            **key,
            "after": None if after is None else _naive(after),
            "recent": config.num_recent_events,
        }
        rows = await self._run("get_session", asked)
        if not rows:
            return None
        rows.sort(key=lambda row: -row[0])
        _, update_time, _, _, data = rows.pop()
        state = merge_state(**decode(data))
        events = [
            decode_event(data, id, invocation_id, timestamp)
            for _, timestamp, id, invocation_id, data in rows
        ]
        return _session(key, update_time, state, events)

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """Return a user's sessions, or an app's, without events; last updated last.

        Args:
            app_name: The app's name.
            user_id: The user's id (default: the sessions of all users).
        """
        query = "list_sessions" if user_id is None else "list_user_sessions"
        rows = await self._run(query, {"app_name": app_name, "user_id": user_id})
        app = rows[0][3] if rows else None
        users: dict[str, dict[str, Any] | None] = {}
        sessions = []
        for user, id, update_time, _, user_state, own in rows:
            state = merge_state(app, users.setdefault(user, user_state), own)
            sessions.append(_session(_key(app_name, user, id), update_time, state))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(
        self, *, app_name: str, user_id: str, session_id: str
    ) -> None:
        """Delete a session with its events; what is not there is not missed."""
        await self._run("delete_session", _key(app_name, user_id, session_id))

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the user's state, without prefixes; empty when there is none."""
        asked = {"app_name": app_name, "user_id": user_id}
        rows = await self._run("get_user_state", asked)
        state: dict[str, Any] = rows[0][0] if rows else {}
        return state

    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event to a session, in the database and in memory.

        Args:
            session: As it was read or created; its revision is moved on.
            event: What happened. A partial one is returned and not kept.

        Raises:
            AlreadyExistsError: The session has an event of this id.
            SessionNotFoundError: The session is not in the database.
            StaleSessionError: It has been written by somebody else since it was read.
        """
        if event.partial:
            return event
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        async with self._connection() as conn:
            await self.save_event(conn, session, event)
        return self._commit_event_to_session(session, event)

    async def save_event(
        self, conn: AsyncConnection[Any], session: Session, event: Event
    ) -> None:
        """Write an event on a connection of the caller's, in its transaction.

        The session's revision is moved on, so several events may follow one another;
        its events and state in memory are not. After a rollback, read it again.

        Args:
            conn: A connection; it is the caller's to commit.
            session: As it was read or created.
            event: A complete one, without `temp:` state.

        Raises:
            AlreadyExistsError: The session has an event of this id.
            SessionNotFoundError: The session is not in the database.
            StaleSessionError: It has been written by somebody else since it was read.
        """
        values = {
            **_key(session.app_name, session.user_id, session.id),
            **encode_state(event.actions.state_delta),
            "marker": session._storage_update_marker,
            "last_update_time": _naive(session.last_update_time),
            "last_event_id": session.events[-1].id if session.events else None,
            "id": event.id,
            "invocation_id": event.invocation_id,
            "timestamp": _naive(event.timestamp),
            "event": encode_event(event),
        }
        try:
            rows = await fetch(conn, self._sql("append_event"), values)
        except UniqueViolation as error:
            raise AlreadyExistsError(
                f"Event with id {event.id} already exists in session {session.id}."
            ) from error
        if not rows:
            raise SessionNotFoundError(f"Session {session.id} not found.")
        ((update_time,),) = rows
        if update_time is None:
            raise StaleSessionError(
                "The session has been modified in storage since it was loaded. "
                "Please reload the session before appending more events."
            )
        _mark(session, update_time)

    async def _run(self, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        async with self._connection() as conn:
            return await fetch(conn, self._sql(query), values)

    def _sql(self, query: str) -> LiteralString:
        return statement(query, self._prefix)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection on which each statement is a transaction of its own."""
        async with autocommit(self._pool or await self._open()) as conn:
            yield conn

    async def _open(self) -> AsyncConnectionPool:
        async with self._opening:
            if self._pool is None:
                given = self._given
                own = not isinstance(given, AsyncConnectionPool)
                pool = await given() if callable(given) else given
                try:
                    await self._check(pool)
                except BaseException:
                    if own:
                        await pool.close()
                    raise
                self._pool = pool
            return self._pool

    async def _check(self, pool: AsyncConnectionPool) -> None:
        async with pool.connection() as conn:
            rows, conn.row_factory = conn.row_factory, tuple_row
            try:
                await schema.check(conn, prefix=self._prefix)
            finally:
                conn.row_factory = rows


def _key(app_name: str, user_id: str, session_id: str) -> dict[str, str]:
    return {"app_name": app_name, "user_id": user_id, "session_id": session_id}


def _session(
    key: dict[str, str],
    update_time: datetime,
    state: dict[str, Any],
    events: list[Event] | None = None,
) -> Session:
    session = Session(
        app_name=key["app_name"],
        user_id=key["user_id"],
        id=key["session_id"],
        state=state,
        events=events or [],
    )
    _mark(session, update_time)
    return session


def _mark(session: Session, update_time: datetime) -> None:
    # The same marker as DatabaseSessionService has, so that either notices the other.
    session.last_update_time = update_time.replace(tzinfo=UTC).timestamp()
    session._storage_update_marker = update_time.isoformat(timespec="microseconds")


def _naive(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC).replace(tzinfo=None)
