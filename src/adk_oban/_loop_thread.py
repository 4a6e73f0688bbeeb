"""A thread with an event loop of its own, which no blocked main loop holds up."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)


class LoopThread:
    """A thread with an event loop, beside the loop that made it, the main one.

    Args:
        name: Its name.
        run: What runs in it; it ends soon after `stopping` is true.
    """

    def __init__(self, name: str, run: Callable[[LoopThread], Awaitable[None]]) -> None:
        self._name = name
        self._run = run
        self._main = asyncio.get_running_loop()
        self._ready: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._told = False
        self._begun = False
        self._inner: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None

    async def start(self) -> None:
        """Start it, and wait until it first tells something.

        Raises:
            Exception: It failed before.
        """
        self._begun = True
        # A daemon, since a process may end without stopping anything.
        threading.Thread(target=self._target, name=self._name, daemon=True).start()
        await asyncio.wrap_future(self._ready)

    async def stop(self, timeout: float) -> None:
        """End it, within a time in seconds."""
        self._told = True
        if self._inner is not None and self._wake is not None:
            with suppress(RuntimeError):  # it has ended
                self._inner.call_soon_threadsafe(self._wake.set)
        if self._begun:
            await asyncio.wait({asyncio.wrap_future(self._ended)}, timeout=timeout)

    @property
    def started(self) -> bool:
        """Whether it has told something."""
        return self._ready.done()

    @property
    def stopping(self) -> bool:
        """Whether it is to end: it was told so, or the main loop is gone."""
        return self._told or self._main.is_closed()

    async def pause(self, seconds: float, *, reading: int | None = None) -> None:
        """Wait, until it is to end or there is something to read at most.

        Args:
            seconds: How long.
            reading: The number of an open file.
        """
        assert self._inner is not None and self._wake is not None  # noqa: S101
        if reading is not None:
            self._inner.add_reader(reading, self._wake.set)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), seconds)
        finally:
            if reading is not None:
                self._inner.remove_reader(reading)
        if not self._told:
            self._wake.clear()

    def tell(self, what: Callable[..., None], *args: Any) -> None:
        """Call a function in the main loop."""
        with suppress(RuntimeError):  # that loop is gone
            self._main.call_soon_threadsafe(what, *args)
            if not self._ready.done():
                self._main.call_soon_threadsafe(self._set_ready)

    def _set_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _target(self) -> None:
        try:
            asyncio.run(self._main_of_thread())
        except Exception as error:
            if self._ready.done():
                logger.exception("thread %s has failed", self._name)
            else:
                self._ready.set_exception(error)
        finally:
            self._ended.set_result(None)

    async def _main_of_thread(self) -> None:
        self._inner, self._wake = asyncio.get_running_loop(), asyncio.Event()
        await self._run(self)
