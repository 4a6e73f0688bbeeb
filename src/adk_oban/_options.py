"""The options of a job: where, when and how often it runs; not what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, Unpack

from ._args import check_json, show

_MAX_ATTEMPTS = 32_767  # PostgreSQL's smallint


class Options(TypedDict, total=False):
    """What may be said of a job when it is made.

    Attributes:
        queue: The queue it waits in.
        max_attempts: How many attempts there may be, 1 to 32767.
        priority: 0 (first) to 9 (last).
        scheduled_at: When it may run: an aware `datetime`.
        schedule_in: The same as seconds, or a `timedelta`, from now.
        tags: Short strings to find it by; Oban writes them in lower case.
        meta: Anything of the caller's that JSON can hold.
    """

    queue: str
    max_attempts: int
    priority: int
    scheduled_at: datetime | None
    schedule_in: float | timedelta | None
    tags: Iterable[str] | None
    meta: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Checked options of a job, with the defaults of its kind."""

    queue: str
    max_attempts: int
    priority: int
    scheduled_at: datetime | None = None
    tags: tuple[str, ...] = ()
    meta: dict[str, Any] | None = None

    def with_(self, **options: Unpack[Options]) -> JobOptions:
        """Return these options with some said anew.

        Raises:
            TypeError: An option is unknown or of the wrong type.
            ValueError: A value is out of range, `scheduled_at` is naive, or both it
                and `schedule_in` are given.
        """
        if unknown := sorted(set(options) - set(Options.__annotations__)):
            known = sorted(Options.__annotations__)
            raise TypeError(f"unknown options {unknown!r}; known are {known!r}")
        tags, meta = options.get("tags"), options.get("meta")
        return JobOptions(
            queue=_queue(options.get("queue", self.queue)),
            max_attempts=_whole(
                "max_attempts",
                options.get("max_attempts", self.max_attempts),
                1,
                _MAX_ATTEMPTS,
            ),
            priority=_whole("priority", options.get("priority", self.priority), 0, 9),
            scheduled_at=_time(options.get("scheduled_at"), options.get("schedule_in")),
            tags=self.tags if tags is None else _tags(tags),
            meta=self.meta if meta is None else _meta(meta),
        )

    def to_oban(self) -> dict[str, Any]:
        """Return them as arguments of `oban.Job`."""
        return {
            "queue": self.queue,
            "max_attempts": self.max_attempts,
            "priority": self.priority,
            "scheduled_at": self.scheduled_at,
            "tags": list(self.tags),
            "meta": dict(self.meta or {}),
        }


def _queue(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"queue must be a string, got {show(value)}")
    if not value.strip():
        raise ValueError(f"queue must not be blank, got {value!r}")
    return check_json("queue", value)


def _whole(name: str, value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {show(value)}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most}, got {value!r}")
    return value


def _time(at: object, delay: object) -> datetime | None:
    if at is not None and delay is not None:
        raise ValueError(
            "give either scheduled_at or schedule_in, got "
            f"scheduled_at={at!r} and schedule_in={delay!r}"
        )
    if delay is not None:
        return _after(delay)
    if at is None:
        return None
    if not isinstance(at, datetime):
        raise TypeError(f"scheduled_at must be a datetime, got {show(at)}")
    if at.utcoffset() is None:
        raise ValueError(
            f"scheduled_at must have a time zone, got the naive {at!r}; say which one, "
            "as in datetime.now(UTC)"
        )
    return at


def _after(delay: object) -> datetime:
    if isinstance(delay, timedelta):
        delay = delay.total_seconds()
    if not isinstance(delay, int | float) or isinstance(delay, bool):
        raise TypeError(
            f"schedule_in must be seconds or a timedelta, got {show(delay)}"
        )
    if not math.isfinite(delay) or delay < 0:
        raise ValueError(f"schedule_in must be 0 seconds or more, got {delay!r}")
    try:
        return datetime.now(UTC) + timedelta(seconds=delay)
    except OverflowError:
        raise ValueError(
            f"schedule_in must end before the year 10000, got {delay!r} seconds"
        ) from None


def _tags(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"tags must be a list of strings, got {show(value)}")
    tags = tuple(value)
    for tag in tags:
        if not isinstance(tag, str):
            raise TypeError(f"tags must hold strings, got {show(tag)}")
        check_json("tags", tag)
    return tags


def _meta(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"meta must be a mapping, got {show(value)}")
    return check_json("meta", dict(value))
