"""A channel of notifications that is listened to while somebody wants to know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from oban import Oban

from . import _oban

# How many seconds a channel is kept when the last one has gone: another comes soon.
_LINGER = 10.0


class Channel:
    """One channel of an Oban's listening connection, for all in this process.

    Args:
        oban: The Oban.
        name: The channel, without the schema and Oban's own prefix.
        callback: Gets each payload.
    """

    def __init__(
        self, oban: Oban, name: str, callback: Callable[[dict[str, Any]], None]
    ) -> None:
        self._oban = oban
        self._name = name
        self._callback = callback
        self._users = 0
        self._token: str | None = None
        self._changing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Listen, for one user more; what is said from soon on arrives."""
        self._users += 1
        try:
            async with self._changing:
                if self._token is None:
                    self._token = await _oban.listen(
                        self._oban, self._name, self._on_message, wait=False
                    )
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Listen for one user less."""
        self._users -= 1
        if self._users == 0:
            if self._timer is not None:
                self._timer.cancel()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_LINGER, self._begin_to_leave)

    async def stop(self) -> None:
        """Listen no more; safe before anybody joined, and twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        async with self._changing:
            token, self._token = self._token, None
            if token is not None:
                await _oban.unlisten(self._oban, token)

    def _begin_to_leave(self) -> None:
        self._timer = None
        self._leaving = asyncio.create_task(self._leave(), name="adk-oban-channel")

    async def _leave(self) -> None:
        async with self._changing:
            if self._users == 0 and self._token is not None:
                token, self._token = self._token, None
                await _oban.unlisten(self._oban, token)

    def _on_message(self, _channel: str, payload: dict[str, Any]) -> None:
        self._callback(payload)
