"""Who watches which job: one listening connection a process, however many watch."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from oban import Oban

from . import _oban
from ._channel import Channel

EVENTS = "adk_event"
"""Something was added to what happened in a job. Oban adds schema and prefix."""

PARTIALS = "adk_partial"
"""A model is answering: some of its text."""

# Where nobody tells that a connection was lost, one looks by oneself, this often.
_LOOK_EVERY = 1.0
_MOST_PARTIALS = 1_000


class Watcher:
    """One who watches a job.

    Args:
        every: Whether it wants to hear of all events, or only of how the job moves on.
        look_every: After how many seconds it looks by itself; None: never.

    Attributes:
        changed: Whether there may be something new in the database.
        partials: What was heard of partial text; the oldest is dropped.
    """

    def __init__(self, *, every: bool, look_every: float | None) -> None:
        self.changed = True
        self.partials: deque[dict[str, Any]] = deque(maxlen=_MOST_PARTIALS)
        self._every = every
        self._look_every = look_every
        self._stopped = False
        self._arrived = asyncio.Event()

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until there may be something new, or until the time is up.

        Raises:
            RuntimeError: The `AdkOban` has stopped, so that nothing is heard any more.
        """
        if self._stopped:
            raise RuntimeError("the AdkOban has stopped, and so has what watches jobs")
        limits = [limit for limit in (seconds, self._look_every) if limit is not None]
        with suppress(TimeoutError):
            async with asyncio.timeout(min(limits, default=None)):
                await self._arrived.wait()
        self._arrived.clear()
        if self._look_every is not None:
            self.changed = True

    def wake(self, *, stopped: bool = False) -> None:
        """Have it look."""
        self.changed = True
        self._stopped = self._stopped or stopped
        self._arrived.set()

    def on_event(self, payload: dict[str, Any]) -> None:
        """Hear that something happened; how a job moves on has a type."""
        if self._every or "type" in payload:
            self.wake()

    def on_partial(self, payload: dict[str, Any]) -> None:
        """Hear some text."""
        self.partials.append(payload)
        self._arrived.set()


class Watch:
    """Wakes those who watch a job when something happens in it.

    Args:
        oban: The Oban whose listening connection it shares.
    """

    def __init__(self, oban: Oban) -> None:
        self._oban = oban
        self._events = Channel(oban, EVENTS, self._on_event)
        self._partials = Channel(oban, PARTIALS, self._on_partial)
        self._watchers: dict[int, set[Watcher]] = defaultdict(set)
        self._readers: dict[int, set[Watcher]] = defaultdict(set)
        self._look_every: float | None = _LOOK_EVERY

    async def start(self) -> None:
        """Be told when the listening connection is there, or there again."""
        if _oban.on_listening(self._oban, self._wake_all):
            self._look_every = None

    async def stop(self) -> None:
        """Stop listening; safe before `start`, and twice."""
        await self._events.stop()
        await self._partials.stop()
        for watcher in self._all():
            watcher.wake(stopped=True)

    @asynccontextmanager
    async def job(
        self, job_id: int, *, every: bool = False, partials: bool = False
    ) -> AsyncIterator[Watcher]:
        """Give what hears of a job from here on.

        Args:
            job_id: The job's id.
            every: Of each event, and not only of how the job moves on.
            partials: Of partial text too.
        """
        watcher = Watcher(every=every, look_every=self._look_every)
        with _member(self._watchers, job_id, watcher):
            await self._events.join()
            try:
                if not partials:
                    yield watcher
                    return
                with _member(self._readers, job_id, watcher):
                    await self._partials.join()
                    try:
                        yield watcher
                    finally:
                        self._partials.leave()
            finally:
                self._events.leave()

    def _all(self) -> list[Watcher]:
        return [watcher for some in self._watchers.values() for watcher in some]

    def _wake_all(self) -> None:
        # What was said before the connection listened, nobody has heard.
        for watcher in self._all():
            watcher.wake()

    def _on_event(self, payload: dict[str, Any]) -> None:
        for watcher in self._watchers.get(payload["job_id"], ()):
            watcher.on_event(payload)

    def _on_partial(self, payload: dict[str, Any]) -> None:
        for watcher in self._readers.get(payload["job_id"], ()):
            watcher.on_partial(payload)


@contextmanager
def _member(
    of: dict[int, set[Watcher]], job_id: int, watcher: Watcher
) -> Iterator[None]:
    of[job_id].add(watcher)
    try:
        yield
    finally:
        of[job_id].discard(watcher)
        if not of[job_id]:
            del of[job_id]
