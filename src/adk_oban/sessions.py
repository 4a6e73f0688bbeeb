"""ADK's session service on PostgreSQL, in ADK's own tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, LiteralString, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from google.adk.cli.service_registry import get_service_registry
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
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from . import schema
from ._codec import decode_event, encode_event, encode_state, merge_state
from ._query import statement, validate_prefix


class PostgresSessionService(BaseSessionService):
    """Keeps ADK sessions in PostgreSQL, one round trip for each operation.

    It shares its tables with ADK's `DatabaseSessionService`: what one writes, the
    other reads. It differs from it where that helps: events with equal timestamps keep
    the order in which they were appended, a writer that missed an event is noticed also
    when its timestamp is the same, and characters that PostgreSQL cannot hold (NUL,
    lone surrogates) are replaced by U+FFFD.

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

    def __init__(self, pool: AsyncConnectionPool, *, prefix: str = "public") -> None:
        self._pool = pool
        self._prefix = validate_prefix(prefix)
        self._owns_pool = False
        self._ready = False
        self._opening = asyncio.Lock()

    @classmethod
    def from_dsn(cls, dsn: str, *, prefix: str = "public", max_size: int = 10) -> Self:
        """Return a service with a pool of its own, opened when it is first used.

        Args:
            dsn: Where the database is.
            prefix: The PostgreSQL schema of the tables (default `"public"`).
            max_size: How many connections there may be (default 10).
        """
        pool = AsyncConnectionPool(dsn, min_size=1, max_size=max_size, open=False)
        service = cls(pool, prefix=prefix)
        service._owns_pool = True
        return service

    async def close(self) -> None:
        """Close the pool, if it is the service's own."""
        if self._owns_pool:
            await self._pool.close()

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

        Raises:
            AlreadyExistsError: There is one of this id.
        """
        now = _naive(platform_time.get_time())
        key = _key(app_name, user_id, session_id or platform_uuid.new_uuid())
        deltas = encode_state(state or {})
        rows = await self._run("create_session", {**key, **deltas, "now": now})
        if not rows:
            raise AlreadyExistsError(f"Session with id {session_id} already exists.")
        _, app, user = rows[0]
        own = {k: v for k, v in (state or {}).items() if not k.startswith(_SCOPES)}
        return _session(key, now, merge_state(app, user, own))

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """Return a session with its events, or None."""
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
        (update_time, _, _, states), *events = rows
        state = merge_state(
            states["app"] or {}, states["user"] or {}, states["session"]
        )
        return _session(
            key, update_time, state, [_event(*row) for row in reversed(events)]
        )

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """Return a user's sessions, or an app's, without events; last updated last."""
        query = "list_sessions" if user_id is None else "list_user_sessions"
        rows = await self._run(query, {"app_name": app_name, "user_id": user_id})
        sessions = [
            _session(_key(app_name, user, id), update_time, merge_state(*states))
            for user, id, update_time, *states in rows
        ]
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

        Raises:
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
        self, conn: AsyncConnection, session: Session, event: Event
    ) -> None:
        """Write an event on a connection of the caller's, in its transaction.

        The session's revision is moved on; its events and state in memory are not.

        Raises:
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
        done = await conn.execute(self._sql("append_event"), values)
        row = await done.fetchone()
        if row is None:
            raise SessionNotFoundError(f"Session {session.id} not found.")
        if row[0] is None:
            raise StaleSessionError(
                "The session has been modified in storage since it was loaded. "
                "Please reload the session before appending more events."
            )
        _mark(session, row[0])

    async def _run(self, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        async with self._connection() as conn:
            done = await conn.execute(self._sql(query), values)
            return await done.fetchall() if done.description else []

    def _sql(self, query: str) -> LiteralString:
        return statement(query, self._prefix)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection on which each statement is a transaction of its own."""
        if not self._ready:
            await self._open()
        async with self._pool.connection() as conn:
            before = conn.autocommit
            # Without a round trip; BEGIN and COMMIT would be two more for each.
            await conn.set_autocommit(True)
            try:
                yield conn
            finally:
                if conn.info.transaction_status == TransactionStatus.IDLE:
                    await conn.set_autocommit(before)
                else:  # cancelled in the middle
                    await conn.close()

    async def _open(self) -> None:
        async with self._opening:
            if self._ready:
                return
            if self._owns_pool:
                await self._pool.open()
            async with self._pool.connection() as conn:
                await schema.check(conn, prefix=self._prefix)
            self._ready = True


class SessionServiceFromUri(PostgresSessionService):
    """What `adk web --session_service_uri adk-oban://…` makes of its URI.

    ADK finds it when the agents folder has a `services.yaml`:

    ```yaml
    services:
      - scheme: adk-oban
        type: session
        class: adk_oban.sessions.SessionServiceFromUri
    ```

    or a `services.py` that calls `register_session_service()`.

    Args:
        uri: A DSN with the scheme `adk-oban`, such as
            `adk-oban://me@localhost/my_app?prefix=jobs`; `prefix` names the PostgreSQL
            schema (default `public`).
        **_: What ADK passes beside it, such as `agents_dir`.
    """

    def __init__(self, uri: str, **_: Any) -> None:
        parts = urlsplit(uri)
        query = dict(parse_qsl(parts.query))
        prefix = query.pop("prefix", "public")
        dsn = urlunsplit(parts._replace(scheme="postgresql", query=urlencode(query)))
        # urlunsplit drops the slashes of an empty host.
        dsn = (
            dsn.replace("postgresql:/", "postgresql:///", 1)
            if not parts.netloc
            else dsn
        )
        pool = AsyncConnectionPool(dsn, min_size=1, max_size=10, open=False)
        super().__init__(pool, prefix=prefix)
        self._owns_pool = True


def register_session_service(scheme: str = "adk-oban") -> None:
    """Let `adk web --session_service_uri adk-oban://…` use this service.

    To be called in the `services.py` of the agents folder.

    Args:
        scheme: The URI's scheme (default `"adk-oban"`).

    Example:
        >>> # agents/services.py
        >>> from adk_oban.sessions import register_session_service
        >>> register_session_service()
    """
    registry = get_service_registry()
    registry.register_session_service(scheme, SessionServiceFromUri)


_SCOPES = ("app:", "user:", "temp:")


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


def _event(
    timestamp: datetime, id: str, invocation_id: str, data: dict[str, Any]
) -> Event:
    data.setdefault("timestamp", timestamp.replace(tzinfo=UTC).timestamp())
    data.update(id=id, invocation_id=invocation_id)
    return decode_event(data)


def _naive(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC).replace(tzinfo=None)
