"""Time and ids of one invocation: the same on every attempt.

ADK asks its platform for both, and what it makes of them, such as the times of events,
comes out the same when steps are replayed: the clock stands still within a step, and
moves on to where the step was recorded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from hashlib import blake2b
from uuid import UUID, uuid4

from google.adk.platform import time as platform_time
from google.adk.platform import uuid as platform_uuid

from ._frame import frame

_TICK = 1e-6  # seconds; PostgreSQL keeps microseconds

_clock: ContextVar[Clock | None] = ContextVar("adk_oban_clock", default=None)


def now() -> datetime:
    """Return when the running job's agent began, the same on each attempt that goes on.

    For instructions and callbacks that put the time into a prompt: with the real time,
    a retry would ask the model something else and pay again. An attempt that finds
    nothing recorded begins anew. Outside a job it is the real time.

    Returns:
        An aware time in UTC.

    Example:
        >>> LlmAgent(
        ...     name="planner",
        ...     instruction=lambda _ctx: f"Today is {now():%A, %d %B %Y}.",
        ... )
    """
    clock = _clock.get()
    return datetime.now(UTC) if clock is None else clock.began_at


class Clock:
    """The time and the ids of one invocation.

    Args:
        began_at: When the invocation began, on its first attempt.
        seed: What makes its ids its own.
    """

    def __init__(self, began_at: datetime, seed: str) -> None:
        self.began_at = began_at
        self.seed = seed
        self._now = began_at.timestamp()
        self._made = 0

    def time(self) -> float:
        """Return the time in seconds since 1970; never the same twice."""
        self._now += _TICK
        return self._now

    def id(self) -> str:
        """Return the next id, a UUID.

        What the body of a tool or node makes for itself is its own: on a replay it does
        not run, and ADK's next id must be the same.
        """
        if frame.get() is not None:
            return str(uuid4())
        self._made += 1
        digest = blake2b(f"{self.seed}:{self._made}".encode(), digest_size=16)
        return str(UUID(bytes=digest.digest(), version=4))

    def advance(self, to: datetime) -> None:
        """Move on to when a step was recorded; never back."""
        self._now = max(self._now, to.timestamp())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the time and the ids of ADK, in this context."""
        token = _clock.set(self)
        platform_time.set_time_provider(self.time)
        platform_uuid.set_id_provider(self.id)
        try:
            yield
        finally:
            platform_time.reset_time_provider()
            platform_uuid.reset_id_provider()
            _clock.reset(token)


def real_now() -> datetime:
    """Return the real time."""
    return datetime.fromtimestamp(time.time(), UTC)


def naive_utc(time: datetime) -> datetime:
    """Return a time as Oban's and ADK's tables have it: in UTC without saying so."""
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
