"""Events of agents on their way to the table: they go along with other records.

Nobody waits for them. They are written by the next statement that records a step of
any job of the process, by one of their own when none comes by, or with the turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_PAUSE = 0.02
_AGAIN = 1.0  # seconds, after an error
# How often it is tried to write what is left of a job before it ends.
_TRIES = 50
_MOST_BYTES = 8_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """An event that an agent has made, as a row of `adk_oban_events`.

    Attributes:
        job_id: The job's id.
        attempted_at: When the attempt that made it was fetched, which fences it.
        attempt: Which attempt that is.
        key: What names it on every attempt.
        steps: How many steps of the job had been done by then.
        data: ADK's event as JSON.
    """

    job_id: int
    attempted_at: datetime
    attempt: int
    key: str
    steps: int
    data: str

    def row(self) -> dict[str, Any]:
        """Return it as `commit_turns.sql` has it, which knows the job."""
        names = ("attempt", "key", "steps", "data")
        return {name: getattr(self, name) for name in names}

    def fenced_row(self, n: int) -> dict[str, Any]:
        """Return it as `record_steps.sql` has it."""
        fence = {"job_id": self.job_id, "attempted_at": self.attempted_at.isoformat()}
        return {"n": n, **fence, **self.row()}


class Shown:
    """The events of a process that are yet to be written.

    Args:
        push: Writes what waits, with a statement of its own.
    """

    def __init__(self, push: Callable[[], Awaitable[object]]) -> None:
        self._push = push
        self._waiting: dict[int, list[ShownEvent]] = {}
        self._taken: dict[int, list[ShownEvent]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pushing: asyncio.Task[None] | None = None
        self._closed = False

    def close(self) -> None:
        """Write nothing more: the next attempt of a job shows again what is missing."""
        self._closed = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def put(self, event: ShownEvent) -> None:
        """Have it written soon."""
        if self._closed:
            return
        self._waiting.setdefault(event.job_id, []).append(event)
        self._arm()

    def take(self) -> list[ShownEvent]:
        """Return what is to be written now; `settle` says what became of it.

        One statement at a time, so that those of a job stay in their order.
        """
        taken: list[ShownEvent] = []
        weight = 0
        while self._waiting and weight < _MOST_BYTES:
            job_id = next(iter(self._waiting))
            events = self._taken[job_id] = self._waiting.pop(job_id)
            weight += sum(len(event.data) for event in events)
            taken += events
        return taken

    def settle(self, left: Sequence[ShownEvent] = ()) -> None:
        """Forget what was taken, but for what is left to be written later."""
        self._taken = {}
        for event in reversed(left):
            self._waiting.setdefault(event.job_id, []).insert(0, event)
        if self._closed:
            self._waiting.clear()
        if self._waiting:
            self._arm()

    def unwritten(self, job_id: int) -> bool:
        """Return whether something of a job is on its way."""
        return job_id in self._waiting or job_id in self._taken

    def withdraw(self, job_id: int) -> list[ShownEvent]:
        """Return all that is on a job's way, which nobody else begins to write now."""
        return [*self._taken.get(job_id, ()), *self._waiting.pop(job_id, ())]

    async def flush(self, job_id: int) -> None:
        """Write what waits of a job, before somebody says how it ended."""
        for _ in range(_TRIES):
            if not self.unwritten(job_id):
                return
            await self._push()
            if self.unwritten(job_id):  # somebody else has locked the job's row
                await asyncio.sleep(_PAUSE)

    def _arm(self, pause: float = _PAUSE) -> None:
        if self._timer is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(pause, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._waiting:
            self._pushing = asyncio.create_task(self._write(), name="adk-oban-shown")

    async def _write(self) -> None:
        try:
            await self._push()
        except Exception:
            if not self._closed:
                logger.exception("events were not written, and will be tried again")
            if self._waiting:
                self._arm(_AGAIN)
