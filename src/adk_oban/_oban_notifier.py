"""Oban's listening connection, mended: part of the seam, `_oban.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from oban._notifier import Notifier, PostgresNotifier, build_notifier
from oban._query import Query
from psycopg import AsyncConnection


def build(spec: dict[str, Any], query: Query) -> Notifier:
    """Build the notifier that an Oban is told to have, ours in place of Oban's own."""
    if spec.get("type", "postgres") != "postgres":
        return build_notifier(spec, query)
    options = {name: value for name, value in spec.items() if name != "type"}
    return DirectNotifier(query=query, prefix=query._prefix, **options)


class DirectNotifier(PostgresNotifier):
    """Oban's notifier, which also cleans up after a connection that broke.

    Oban's own forgets such a connection unclosed, and keeps the task that beats on it;
    stopped before it has another, it does not stop at all.

    Relies on `_connect`, `_reconnect`, `_query`, `_conn`, `_loop_task`, `_beat_task`,
    `_process_pending`, `_pending_listen` and `_pending_unlisten`.

    Attributes:
        on_listening: Called each time it has begun to listen to channels, also to those
            that it listened to before its connection broke.
    """

    _stopped = False
    _opened: AsyncConnection | None = None
    _reconnecting: asyncio.Task[Any] | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.on_listening: list[Callable[[], None]] = []

    async def listen(
        self, channel: str, callback: Callable[..., Any], *args: Any, **options: Any
    ) -> str:
        """Listen to a channel; one that was just given up is not any more."""
        self._pending_unlisten.discard(channel)
        token: str = await super().listen(channel, callback, *args, **options)
        return token

    async def _process_pending(self) -> None:
        begins = bool(self._pending_listen)
        await super()._process_pending()
        if begins:
            for callback in self.on_listening:
                callback()

    async def _connect(self) -> None:
        await super()._connect()
        self._opened = self._conn

    def listen_on(self, dsn: str) -> None:
        """Listen on a connection of its own to another DSN than the pool's."""
        self._query = _DirectQuery(self._query, dsn)

    async def _reconnect(self) -> None:
        seen = self._reconnecting is not None and not self._reconnecting.done()
        if seen or self._stopped:  # the loop and the beat both see that it broke
            return
        self._reconnecting = asyncio.current_task()
        await self._end(self._loop_task, self._beat_task)
        await super()._reconnect()

    async def stop(self) -> None:
        self._stopped = True
        await self._end(self._reconnecting)
        await self._end(self._loop_task, self._beat_task)

    async def _end(self, *tasks: asyncio.Task[Any] | None) -> None:
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._opened is not None:
            await self._opened.close()
            self._opened = None


class _DirectQuery(Query):
    """An Oban's queries, with another answer to where the database is."""

    def __init__(self, query: Query, dsn: str) -> None:
        super().__init__(query._pool, query._prefix)
        self._direct_dsn = dsn

    async def dsn(self) -> str:
        return self._direct_dsn
