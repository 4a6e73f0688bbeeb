"""What the errors of models' SDKs ask for; real ones in integration/test_gemini.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from adk_oban._retry_after import LIMIT, retry_after


def http_error(said: str) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://127.0.0.1")
    response = httpx.Response(429, headers={"Retry-After": said}, request=request)
    return httpx.HTTPStatusError("429", request=request, response=response)


class WithDetails(Exception):
    def __init__(self, details: object) -> None:
        self.details = details


@pytest.mark.parametrize(
    ("said", "seconds"), [("30", 30), ("0", 0), ("1.5", 1.5), ("99999", LIMIT)]
)
def test_seconds_in_a_header(said, seconds):
    assert retry_after(http_error(said)) == seconds


def test_a_date_in_a_header():
    at = datetime.now(UTC) + timedelta(seconds=100)

    assert 98 <= retry_after(http_error(format_datetime(at, usegmt=True))) <= 100
    assert retry_after(http_error("Wed, 21 Oct 2015 07:28:00 GMT")) == 0


@pytest.mark.parametrize(
    "said",
    ["", "soon", "nan", "inf", "-", f"Wed, 21 Oct {'9' * 20} 07:28:00 GMT"],
    ids=str,
)
def test_a_header_that_nobody_can_read_asks_for_nothing(said):
    assert retry_after(http_error(said)) is None


@pytest.mark.parametrize(
    "details",
    [
        None,
        "text",
        [],
        {"error": "text"},
        {"error": {"details": [{"reason": "QUOTA"}]}},
        {"error": {"details": [{"retryDelay": 7}]}},
        {"error": {"details": [{"retryDelay": "soon"}]}},
    ],
    ids=str,
)
def test_details_without_a_delay_ask_for_nothing(details):
    assert retry_after(WithDetails(details)) is None


def test_of_a_group_the_longest_counts():
    group = ExceptionGroup("two agents", [http_error("5"), http_error("7"), OSError()])

    assert retry_after(group) == 7
    assert retry_after(ExceptionGroup("one agent", [OSError()])) is None


def test_an_error_that_says_nothing_asks_for_nothing():
    assert retry_after(OSError("down")) is None
