"""Stops an invocation in the middle, for a user who cancels it or for a time-out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from ._journal import Journal
from ._verdict import Stopped

logger = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that the user's `finally` blocks get; what still runs then is left behind."""

_AGAIN = 0.5  # seconds that it gets once it is cancelled a second time


class _Signal(asyncio.Event):
    """ADK's abort signal, which tells those who look, and wakes nobody.

    The invocation's task is cancelled. Waking ADK as well would have it cancel its own
    tasks a second time, in the middle of the user's `finally` blocks.
    """

    shown = False

    def is_set(self) -> bool:
        return self.shown or super().is_set()


class Abort:
    """How one invocation is stopped.

    Args:
        job_id: Its job.
        asked: Set when a user cancels the job; None where nobody can.
        journal: Its journal, which takes nothing more from what is left behind.

    Attributes:
        signal: What ADK is to look at.
    """

    def __init__(
        self, job_id: int, asked: asyncio.Event | None, journal: Journal
    ) -> None:
        self.signal = _Signal()
        self._job_id = job_id
        self._asked = asked or asyncio.Event()
        self._journal = journal

    async def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run it to its end.

        Raises:
            CancelledError: This task is cancelled, and the invocation with it.
            Exception: Whatever it raised.
            Stopped: A user has cancelled the job.
        """
        run = asyncio.create_task(work, name=f"adk-oban-job-{self._job_id}")
        asked = asyncio.create_task(self._asked.wait(), name="adk-oban-asked")
        try:
            await asyncio.wait({run, asked}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end(run)
            raise
        finally:
            asked.cancel()
        if not self._asked.is_set():
            return run.result()
        self.signal.shown = True
        await self._end(run)
        raise Stopped

    async def _end(self, run: asyncio.Task[Any]) -> None:
        run.add_done_callback(self._ended)
        try:
            for seconds in (GRACE, _AGAIN):
                run.cancel()
                if (await asyncio.wait({run}, timeout=seconds))[0]:
                    break
        finally:
            if not run.done():
                self._journal.close()

    def _ended(self, run: asyncio.Task[Any]) -> None:
        if not run.cancelled() and (error := run.exception()) is not None:
            logger.warning("job %s raised when it was stopped: %r", self._job_id, error)
