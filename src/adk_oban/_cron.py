"""When a schedule runs: cron expressions with time zones and daylight saving."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""The same as Oban's."""


class NeverTicksError(ValueError):
    """An expression has no tick within the next 50 years."""


def check_expression(expression: object) -> str:
    """Return a cron expression that has a tick to come.

    Raises:
        TypeError: It is not a string.
        ValueError: It is not one of five fields (or six, with seconds first) or a
            nickname such as `@daily`, or it never ticks.
    """
    if not isinstance(expression, str):
        raise TypeError(f"cron expression must be a string, got {expression!r}")
    try:
        next_tick(expression, "UTC", after=datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(
            f"cron expression {expression!r} is invalid: {error}. It has five fields "
            "(minute hour day month weekday), or six with seconds first, or is one of "
            f"{', '.join(NICKNAMES)}"
        ) from None
    except NeverTicksError:
        raise ValueError(f"cron expression {expression!r} never ticks") from None
    return expression


def check_timezone(timezone: object) -> str:
    """Return the name of a time zone that there is.

    Raises:
        TypeError: It is not a string.
        ValueError: There is no such time zone.
    """
    if not isinstance(timezone, str):
        raise TypeError(f"timezone must be a string, got {timezone!r}")
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"timezone {timezone!r} is unknown; use an IANA name such as "
            "'Europe/Paris', or 'UTC'"
        ) from None
    return timezone


def next_tick(expression: str, timezone: str, *, after: datetime) -> datetime:
    """Return the first tick after a time, in UTC.

    In a zone with daylight saving it does what Debian's cron does: a tick in the hour
    that is skipped comes right after it, and one in the hour that is repeated comes
    once; expressions that tick every hour or minute go by the clock's real pace.

    Args:
        expression: A checked cron expression.
        timezone: A checked name of a time zone.
        after: An aware time.
    """
    for tick in _ticks(expression, timezone, after):
        # Asked in the second of two equal hours, cronsim names the first one's tick.
        if tick > after:
            return tick
    raise NeverTicksError(expression)


def last_tick(
    expression: str, timezone: str, *, first: datetime, until: datetime
) -> datetime:
    """Return the latest tick that is not after `until`, of those from `first` on.

    Args:
        expression: A checked cron expression.
        timezone: A checked name of a time zone.
        first: A tick; it is returned when there is no later one.
        until: An aware time.
    """
    # Two steps back and then forward: backward cronsim knows no daylight saving.
    back = _ticks(expression, timezone, until, reverse=True)
    tick = max(first, [next(back), next(back)][-1])
    while (later := next_tick(expression, timezone, after=tick)) <= until:
        tick = later
    return tick


def _ticks(
    expression: str, timezone: str, start: datetime, *, reverse: bool = False
) -> Iterator[datetime]:
    cron = NICKNAMES.get(expression.strip().lower(), expression)
    # cronsim compares zones by identity, and knows UTC only as datetime's own.
    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    ticks = CronSim(cron, start.astimezone(zone), reverse=reverse)
    return (tick.astimezone(UTC) for tick in ticks)
