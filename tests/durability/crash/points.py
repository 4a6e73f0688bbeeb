"""Where a job may crash: points that are counted, and one that is armed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adk_oban._approvals import Approvals
from adk_oban._steps import Steps
from adk_oban._turns import Turns

TRIES = 3
"""How often a job is run until it comes to a point.

What runs side by side may be written together, and then has fewer points.
"""


class CrashError(RuntimeError):
    """What a crash point raises."""


class Points:
    """Counts the points that are passed, and crashes at one of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._crash: Callable[[str], None] | None = None
        self._watch: Callable[[str], None] | None = None
        self._at: int | None = None
        self._on = False
        self.seen: list[str] = []

    def start(
        self,
        *,
        at: int | None = None,
        crash: Callable[[str], None] | None = None,
        watch: Callable[[str], None] | None = None,
    ) -> None:
        """Begin to count; at the point of number `at` the job crashes, once."""
        self.seen, self._at, self._on = [], at, True
        self._crash, self._watch = crash, watch

    def stop(self) -> None:
        """Count no longer."""
        self._on = False

    @property
    def crashed(self) -> bool:
        """Whether the armed point was reached."""
        return self._at is not None and len(self.seen) > self._at

    def reach(self, label: str) -> None:
        """Say that a point is reached; does not return when it is the armed one."""
        if not self._on:
            return
        with self._lock:
            number = len(self.seen)
            self.seen.append(label)
        if self._watch is not None:
            self._watch(label)
        if number == self._at and self._crash is not None:
            self._crash(label)


points = Points()
"""Those of this process, which the agents of the zoo pass."""


def fail(label: str) -> None:
    """Crash by an exception."""
    raise CrashError(f"crash at {label}")


def killing(note: Path) -> Callable[[str], None]:
    """Return what notes where it is, and crashes as the kernel does it."""

    def kill(label: str) -> None:
        note.write_text(label)
        os.kill(os.getpid(), signal.SIGKILL)

    return kill


def _journal(items: Any, **_options: Any) -> str | None:
    """Name what is written together; events alone come at any time: no point."""
    pairs = [item for item in items if item is not None]
    names = [f"{step.kind} {step.name} {step.state}" for _, step in pairs]
    events = ["events"] * (len(pairs) < len(items))
    return " + ".join(["journal", *names, *events]) if names else None


def _transactional(items: Any, conn: Any = None) -> str | None:
    return None if conn is None else _journal(items)


_WRAPPED: tuple[tuple[type, str, Callable[..., str | None]], ...] = (
    (Steps, "_save", _journal),
    (Steps, "save", _transactional),
    (Turns, "commit", lambda *_args: "commit"),
    (Approvals, "ask", lambda *_args, **_options: "ask"),
)


@contextmanager
def instrumented() -> Iterator[None]:
    """Put points around every journal write, every commit, and questions amid a run."""
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in _WRAPPED]
    for owner, name, label in _WRAPPED:
        setattr(owner, name, _around(getattr(owner, name), label))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _around(
    original: Callable[..., Awaitable[Any]], label: Callable[..., str | None]
) -> Callable[..., Awaitable[Any]]:
    async def wrapped(self: Any, *items: Any, **options: Any) -> Any:
        what = label(*items, **options)
        if what is None:
            return await original(self, *items, **options)
        points.reach(f"before {what}")
        result = await original(self, *items, **options)
        points.reach(f"after {what}")
        return result

    return wrapped
