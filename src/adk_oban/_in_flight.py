"""The steps of an attempt that are being done right now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_around: ContextVar[tuple[object, ...]] = ContextVar("adk_oban_around", default=())
"""The steps in whose bodies this context is."""


class InFlight:
    """Which steps have begun and are not recorded.

    An attempt that ends in the middle, since somebody must be asked, lets what runs
    beside it come to its end first: it would be done again. Nothing new begins then.
    """

    def __init__(self) -> None:
        self._steps: set[object] = set()
        self._quiet = asyncio.Event()
        self._closed = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """Be a step, whose body may ask."""
        mine = object()
        token = _around.set((*_around.get(), mine))
        self.begin(mine)
        try:
            yield
        finally:
            self.end(mine)
            _around.reset(token)

    def begin(self, step: object) -> None:
        """Note that a step is being done, which asks nothing itself."""
        self._steps.add(step)
        self._quiet.clear()

    def end(self, step: object) -> None:
        """Note that a step is recorded, or has failed."""
        self._steps.discard(step)
        if not self._steps:
            self._quiet.set()

    async def admit(self) -> None:
        """Let a step begin; for ever not when somebody is about to be asked."""
        if self._closed:
            self._leave()
            await asyncio.Event().wait()  # until the attempt ends, and this with it

    async def others(self) -> None:
        """Wait until no other step is in flight, but for those around this one."""
        self._closed = True
        self._leave()
        if self._steps:
            await self._quiet.wait()

    def _leave(self) -> None:
        # What is around this step ends when it does.
        for around in _around.get():
            self.end(around)
