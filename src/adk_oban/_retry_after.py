"""How long a model's service asks to wait before it is called again."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

LIMIT = 3600.0
"""Seconds that a service is believed at most."""


def retry_after(error: BaseException) -> float | None:
    """Return the seconds that an error of a model's SDK asks for, if it does.

    Two forms are known: the `Retry-After` of an HTTP response, in seconds or as a date
    (RFC 9110, section 10.2.3), which the errors of google-genai, httpx, OpenAI and
    Anthropic carry as `response.headers`; and Google's `RetryInfo` among the details of
    a google-genai error (google/rpc/error_details.proto). The longer one counts.

    Args:
        error: What an attempt failed with; of a group, as agents in parallel raise it,
            the longest counts.

    Returns:
        Seconds from 0 to `LIMIT`, or None when it asks for nothing that can be read.
    """
    if isinstance(error, BaseExceptionGroup):
        asked = [retry_after(each) for each in error.exceptions]
    else:
        asked = [_of_headers(error), _of_details(getattr(error, "details", None))]
    known = [s for s in asked if s is not None and math.isfinite(s)]
    return min(max(0.0, *known), LIMIT) if known else None


def _of_headers(error: BaseException) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None)
    said = headers.get("retry-after") if isinstance(headers, Mapping) else None
    if said is None:
        return None
    try:
        return float(said)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(said).timestamp() - time.time()
    except (OverflowError, ValueError):
        return None


def _of_details(details: Any) -> float | None:
    # {"error": {"details": [{"@type": "…/google.rpc.RetryInfo", "retryDelay": "34s"}]}}
    try:
        infos = details["error"]["details"]
        (delay,) = (info["retryDelay"] for info in infos if "retryDelay" in info)
        return float(delay.removesuffix("s"))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
