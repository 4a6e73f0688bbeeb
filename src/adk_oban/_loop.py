"""A part that does one unit of work again and again until it is stopped."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

# Long enough for a statement to finish, short enough not to hang when the server does.
_STOP_TIMEOUT = 5.0

logger = logging.getLogger(__name__)


class Loop:
    """The base of our background loops: `run_once` is the work, in a subclass.

    Args:
        part: What it is, for the task's name: `adk-oban-<part>`.
        interval: How many seconds pass between two runs at most.
    """

    def __init__(self, part: str, *, interval: float) -> None:
        self._part = part
        self._interval = interval
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._stopping.clear()
        self._task = asyncio.create_task(self._run(), name=f"adk-oban-{self._part}")

    async def stop(self) -> None:
        """End at the next safe point; safe before `start`, and twice."""
        self._stopping.set()
        task, self._task = self._task, None
        if task is not None:
            with suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(task, _STOP_TIMEOUT)

    async def run_once(self) -> float | None:
        """Do one unit of work.

        Returns:
            In how many seconds there is more to do, or None for the interval.
        """
        raise NotImplementedError

    async def _run(self) -> None:
        while not self._stopping.is_set():
            pause: float | None = None
            try:
                pause = await self.run_once()
            except Exception:
                # Most often the server is away for a while; the loop outlives that.
                logger.exception("%s failed, and will try again", self._part)
            wait = self._interval if pause is None else min(pause, self._interval)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), max(wait, 0.001))
