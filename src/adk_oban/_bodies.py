"""The bodies of tools and nodes that run in an attempt, and those it left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from google.adk.utils._sync_runner import _is_async_callable

logger = logging.getLogger(__name__)


class Bodies:
    """What runs of an attempt's tools and nodes, and what nothing can stop.

    Attributes:
        left: What was left behind, each in words for people.
    """

    def __init__(self) -> None:
        self.left: list[str] = []
        self._running: list[str] = []

    @contextmanager
    def run(self, what: str, function: Callable[..., Any] | None) -> Iterator[None]:
        """Be the body of a call.

        Args:
            what: Of what, in words for people.
            function: The user's function; None when it is no mere function.
        """
        self._running.append(what)
        try:
            yield
        except asyncio.CancelledError:
            # A plain function runs in a thread, which goes on when nobody waits for it.
            if function is not None and not _is_async_callable(function):
                self._leave(f"{what} blocks a thread and was left behind")
            raise
        finally:
            self._running.remove(what)

    def leave_behind(self) -> None:
        """Note that the attempt ends without what still runs."""
        for what in self._running or ["the agent"]:
            self._leave(f"{what} suppresses its cancellation and was left behind")

    def _leave(self, words: str) -> None:
        logger.warning("%s: it goes on, and nothing of it is recorded", words)
        if words not in self.left:
            self.left.append(words)
