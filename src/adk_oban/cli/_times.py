"""Times and spans, as options have them."""

from __future__ import annotations

from datetime import datetime, timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(option: str, text: str) -> timedelta:
    """Return a span: seconds, or such as 90s, 10m, 2h, 1d.

    Raises:
        ValueError: It is none.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        return timedelta(seconds=float(number) * _UNITS[unit])
    except (ValueError, OverflowError):
        raise ValueError(
            f"{option} must be seconds, or such as 90s, 10m, 2h, 1d, got {text!r}"
        ) from None


def time_of(option: str, text: str) -> datetime:
    """Return an ISO time.

    Raises:
        ValueError: It is none.
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{option} must be an ISO time such as 2030-01-31T09:00+01:00, got {text!r}"
        ) from None
