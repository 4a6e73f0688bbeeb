"""Who waits for which job: one listening connection a process, however many wait."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from oban import Oban

from . import _oban
from ._results import CHANNEL


class Watch:
    """Wakes those who wait for a job's result when it is there.

    Args:
        oban: The Oban whose listening connection it shares.
    """

    def __init__(self, oban: Oban) -> None:
        self._oban = oban
        self._token: str | None = None
        self._waiting: dict[int, set[asyncio.Event]] = defaultdict(set)

    async def start(self) -> None:
        """Listen for results."""
        self._token = await _oban.listen(self._oban, CHANNEL, self._on_result)

    async def stop(self) -> None:
        """Stop listening; safe before `start`, and twice."""
        if self._token is not None:
            await _oban.unlisten(self._oban, self._token)
            self._token = None

    @contextmanager
    def job(self, job_id: int) -> Iterator[asyncio.Event]:
        """Give an event that is set each time a result of the job arrives."""
        arrived = asyncio.Event()
        self._waiting[job_id].add(arrived)
        try:
            yield arrived
        finally:
            self._waiting[job_id].discard(arrived)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def _on_result(self, _channel: str, payload: dict[str, Any]) -> None:
        for arrived in self._waiting.get(payload["job_id"], ()):
            arrived.set()
