"""Which jobs are meant: what a caller filters by, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Self, TypedDict, Unpack

from . import _oban
from ._args import check_json, show
from ._clock import naive_utc

LIVE = ("available", "scheduled", "suspended", "executing", "retryable")
"""The states of jobs that have not ended."""

STOPPED = ("discarded", "cancelled", "retryable")
"""The states of jobs that can be retried."""

_TEXTS = ("queue", "agent", "app_name", "user_id", "session_id", "tag")


class Filters(TypedDict, total=False):
    """What jobs are found by; each narrows the others down.

    Attributes:
        state: Oban's state, or several of them.
        queue: Oban's queue.
        agent: The agent's name as the args have it, or the inline agent's.
        app_name: ADK's app name, as the args have it.
        user_id: ADK's user id.
        session_id: ADK's session id.
        tag: One of the job's tags.
        since: Enqueued at this time or later: an aware `datetime`.
        until: Enqueued before this time: an aware `datetime`.
    """

    state: str | Sequence[str] | None
    queue: str | None
    agent: str | None
    app_name: str | None
    user_id: str | None
    session_id: str | None
    tag: str | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Checked filters; None of a field: any.

    Attributes:
        states: Oban's states; none: any.
        queue: Oban's queue.
        agent: The agent's name.
        app_name: ADK's app name.
        user_id: ADK's user id.
        session_id: ADK's session id.
        tag: One of the tags, as Oban writes it.
        since: The first time, in UTC without saying so, as Oban's columns are.
        until: The time after the last one.
    """

    states: tuple[str, ...] = ()
    queue: str | None = None
    agent: str | None = None
    app_name: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def of(cls, **filters: Unpack[Filters]) -> Self:
        """Return the filters that a caller gave.

        Raises:
            TypeError: One is unknown or of the wrong type.
            ValueError: A value is wrong; the message names it.
        """
        if unknown := sorted(set(filters) - set(Filters.__annotations__)):
            known = sorted(Filters.__annotations__)
            raise TypeError(f"unknown filters {unknown!r}; known are {known!r}")
        texts = {name: _text(name, filters.get(name)) for name in _TEXTS}
        if (tag := texts["tag"]) is not None:
            texts["tag"] = tag.strip().lower()
        return cls(
            states=_states(filters.get("state")),
            since=_time("since", filters.get("since")),
            until=_time("until", filters.get("until")),
            **texts,
        )

    def among(self, states: tuple[str, ...], what: str) -> Self:
        """Return the filters narrowed down to the states that a bulk operation is for.

        Raises:
            ValueError: There are no filters, or another state is asked for.
        """
        if self == type(self)():
            raise ValueError(
                f"{what} needs a filter, such as user_id=..., or state={states!r} for "
                "all of them"
            )
        for state in self.states:
            if state not in states:
                raise ValueError(f"{what} is for jobs in {states!r}, got {state!r}")
        return replace(self, states=self.states or states)

    @property
    def has_order(self) -> bool:
        """Whether an index other than that of states has what is asked for in order."""
        ordered = (self.queue, self.agent, self.app_name, self.user_id, self.session_id)
        return any(value is not None for value in ordered)

    def values(self) -> dict[str, Any]:
        """Return what the lines of the statement are about, but for the state."""
        values = asdict(self)
        del values["states"]
        return values


def _states(value: object) -> tuple[str, ...]:
    match value:
        case None:
            return ()
        case str():
            states: tuple[Any, ...] = (value,)
        case Sequence():
            states = tuple(value)
        case _:
            raise TypeError(f"state must be a state or several, got {show(value)}")
    for state in states:
        if state not in _oban.STATES:
            raise ValueError(
                f"state must be one of {_oban.STATES!r}, got {show(state)}"
            )
    if not states:
        raise ValueError(f"state must be one of {_oban.STATES!r} at least, got none")
    return tuple(dict.fromkeys(states))


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {show(value)}")
    if not value.strip():
        raise ValueError(f"{name} must not be blank, got {value!r}")
    return check_json(name, value)


def _time(name: str, value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, got {show(value)}")
    if value.tzinfo is None:
        raise ValueError(f"{name} must have a time zone, got the naive {value!r}")
    try:
        return naive_utc(value)
    except OverflowError:
        raise ValueError(f"{name} is out of range in UTC, got {value!r}") from None
