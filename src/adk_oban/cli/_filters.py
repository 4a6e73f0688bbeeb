"""The options by which `jobs`, `cancel` and `retry` find jobs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import update_wrapper
from typing import Any

import click

from adk_oban._filter import Filters

from ._times import seconds_of, time_of

_NAMES = {"user": "user_id", "session": "session_id", "app": "app_name"}
_OPTIONS = {
    "state": "Only jobs in this state. May be repeated.",
    "queue": "Only jobs of this queue.",
    "agent": "Only jobs of this agent.",
    "app": "Only jobs of this app of ADK's.",
    "user": "Only jobs of this user of ADK's.",
    "session": "Only jobs of this session.",
    "tag": "Only jobs with this tag.",
    "since": "Only jobs enqueued since: an ISO time with its zone, or 90s, 10m, 2h, 1d "
    "ago.",
    "until": "Only jobs enqueued before; likewise.",
}


def filters(
    run: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., Coroutine[Any, Any, None]]:
    """Add the options, and give the command those that were said as one: `filters`."""

    async def wrapped(**options: Any) -> None:
        said = {name: options.pop(name) for name in _OPTIONS}
        await run(filters=_filters(said), **options)

    function: Any = update_wrapper(wrapped, run)
    for name, help in reversed(_OPTIONS.items()):
        multiple = name == "state"
        function = click.option(f"--{name}", multiple=multiple, help=help)(function)
    wanted: Callable[..., Coroutine[Any, Any, None]] = function
    return wanted


def check_either(job_ids: Sequence[int], filters: Filters) -> None:
    """Refuse a command that is told neither which jobs nor by what to find them.

    Raises:
        ValueError: It is told neither, or both.
    """
    if bool(job_ids) == bool(filters):
        raise ValueError(
            "name jobs by their numbers, or find them by options such as --user and "
            f"--state, got jobs {list(job_ids)!r} and filters {sorted(filters)!r}"
        )


def _filters(said: dict[str, Any]) -> dict[str, Any]:
    given = {n: value for n, value in said.items() if value is not None and value != ()}
    for name in ("since", "until"):
        if name in given:
            given[name] = _past(name, given[name])
    return {_NAMES.get(name, name): value for name, value in given.items()}


def _past(name: str, text: str) -> datetime:
    if text[-1:] in ("s", "m", "h", "d") and "-" not in text:
        return datetime.now(UTC) - seconds_of(f"--{name}", text)
    return time_of(f"--{name}", text)
