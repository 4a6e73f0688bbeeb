"""Ticks: time zones, daylight saving, and long ago."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adk_oban._cron import last_tick, next_tick

PARIS = "Europe/Paris"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "timezone", "after", "expected"),
    [
        ("0 0 * * *", "UTC", "2026-01-01T00:00", "2026-01-02T00:00"),
        ("@daily", "Asia/Tokyo", "2026-01-01T00:00", "2026-01-01T15:00"),
        ("@HOURLY", "UTC", "2026-01-01T00:00", "2026-01-01T01:00"),
        ("*/5 * * * * *", "UTC", "2026-01-01T00:00:01.5", "2026-01-01T00:00:05"),
        ("0 9 * * MON-FRI", PARIS, "2026-11-20T12:00", "2026-11-23T08:00"),
        # Clocks go forward at 02:00: 02:30 does not exist, and comes right after.
        ("30 2 * * *", PARIS, "2026-03-28T12:00", "2026-03-29T01:00"),
        ("30 2 * * *", PARIS, "2026-03-29T01:00", "2026-03-30T00:30"),
        # Clocks go back at 03:00: 02:30 comes twice, and is run the first time only.
        ("30 2 * * *", PARIS, "2026-10-24T12:00", "2026-10-25T00:30"),
        ("30 2 * * *", PARIS, "2026-10-25T00:30", "2026-10-26T01:30"),
        ("30 2 * * *", PARIS, "2026-10-25T01:10", "2026-10-26T01:30"),
        # Every half hour goes on at its pace through both.
        ("*/30 * * * *", PARIS, "2026-10-25T00:30", "2026-10-25T01:00"),
        ("*/30 * * * *", PARIS, "2026-03-29T00:30", "2026-03-29T01:00"),
    ],
)
def test_the_next_tick(expression, timezone, after, expected):
    assert next_tick(expression, timezone, after=at(after)) == at(expected)


@pytest.mark.parametrize(
    ("expression", "first", "until", "expected"),
    [
        ("* * * * * *", "2000-01-01", "2026-01-01T00:00:09.5", "2026-01-01T00:00:09"),
        ("0 0 1 * *", "2000-01-01", "2026-01-15", "2026-01-01"),
        ("0 0 1 1 *", "2020-01-01", "2020-06-01", "2020-01-01"),
        ("0 0 29 2 *", "2000-02-29", "2026-01-01", "2024-02-29"),
    ],
)
def test_the_last_tick_is_found_at_once_however_long_ago(
    expression, first, until, expected
):
    found = last_tick(expression, "UTC", first=at(first), until=at(until))
    assert found == at(expected)


def test_ticks_of_a_year_in_paris_are_one_a_day():
    tick, ticks = at("2026-01-01T00:00"), []
    while tick < at("2027-01-01T00:00"):
        tick = next_tick("30 2 * * *", PARIS, after=tick)
        ticks.append(tick)
    assert len(ticks) == 366
    assert len({tick.date() for tick in ticks}) == 366
