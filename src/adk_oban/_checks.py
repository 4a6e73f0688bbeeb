"""Refuses arguments of `AdkOban` that cannot be meant, when it is made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from oban import Oban
from psycopg_pool import AsyncConnectionPool

from ._args import ON_APPROVAL_TIMEOUT


def check_sources(
    *,
    dsn: str | None,
    pool: AsyncConnectionPool | None,
    oban: Oban | None,
    own: Mapping[str, Any],
) -> None:
    """Refuse sources of connections that exclude each other.

    Args:
        dsn: Where the database is.
        pool: An open pool.
        oban: An Oban of the caller's.
        own: What an Oban that is made here would be given.

    Raises:
        TypeError: `dsn` is not a string.
        ValueError: There is more than one, or an Oban that is given gets options.
    """
    if dsn is not None and not isinstance(dsn, str):
        raise TypeError(f"dsn must be a string, got {dsn!r}; pools go into pool=")
    given = {"dsn": dsn, "pool": pool, "oban": oban}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ValueError(f"give AdkOban one of dsn, pool and oban, got {names!r}")
    if oban is not None:
        if said := [name for name, value in own.items() if value is not None]:
            raise ValueError(
                f"an Oban that is given has its own {said!r}: say them there"
            )


def check_limits(
    *,
    result_ttl: timedelta,
    step_ttl: timedelta,
    tool_timeout: float | Mapping[str, float] | None,
    model_timeout: float | Mapping[str, float] | None,
    job_timeout: float | None,
    retry_error_codes: Iterable[str],
    approval_timeout: float | None,
    on_approval_timeout: str,
    pool_size: int,
    lock_timeout: float,
) -> None:
    """Refuse limits that are out of range.

    Raises:
        TypeError: `retry_error_codes` is a single string.
        ValueError: One is; the message names it.
    """
    if result_ttl <= timedelta(0):
        raise ValueError(f"result_ttl must be positive, got {result_ttl!r}")
    if step_ttl < timedelta(0):
        raise ValueError(f"step_ttl must not be negative, got {step_ttl!r}")
    _check_seconds("tool_timeout", tool_timeout)
    _check_seconds("model_timeout", model_timeout)
    _check_seconds("job_timeout", job_timeout)
    _check_seconds("approval_timeout", approval_timeout)
    if on_approval_timeout not in ON_APPROVAL_TIMEOUT:
        raise ValueError(
            f"on_approval_timeout must be one of {ON_APPROVAL_TIMEOUT!r}, got "
            f"{on_approval_timeout!r}"
        )
    if isinstance(retry_error_codes, str):
        raise TypeError(
            f"retry_error_codes must be a list of strings, got {retry_error_codes!r}"
        )
    if pool_size < 1:
        raise ValueError(f"pool_size must be 1 or more, got {pool_size!r}")
    if lock_timeout < 1:
        raise ValueError(f"lock_timeout must be 1 or more, got {lock_timeout!r}")


def _check_seconds(name: str, value: float | Mapping[str, float] | None) -> None:
    limits = value.values() if isinstance(value, Mapping) else [value]
    for seconds in limits:
        if seconds is not None and not 0 < seconds < math.inf:
            raise ValueError(f"{name} must be more than 0 seconds, got {value!r}")
