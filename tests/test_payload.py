"""Payloads: what a step returned comes back as it was, or as JSON has it."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from uuid import UUID

import pytest
from google.adk.events import Event, EventActions
from google.adk.events.request_input import RequestInput
from google.genai import types
from pydantic import BaseModel

from adk_oban._payload import pack, unpack


class Color(Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    when: date | None = None


@dataclasses.dataclass
class Pair:
    left: int
    right: str


PART = types.Part(inline_data=types.Blob(data=b"\x00\xff", mime_type="image/png"))
ITSELF = [
    None,
    True,
    0,
    -1.5,
    10**30,
    "text",
    "",
    [],
    {},
    {"a": [1, {"b": None}]},
    b"",
    b"\x00\xff",
    {"deep": [b"\x00", {"er": b"\xff"}]},
    "NUL \x00 inside",
    "lone \ud800 surrogate",
    {"lone \udfff": b"\xff"},
    "😀",
    math.inf,
    -math.inf,
    {"$class": "Part", "value": {"text": "mine"}},
    {"$bytes": "mine"},
    {"$escaped": {"$escaped": {"$class": 1}}},
    {"$class": {"$bytes": [b"\xff"]}},
    PART,
    [PART, {"part": PART}],
    types.Content(role="user", parts=[PART, types.Part(text="\x00")]),
    types.FunctionResponse(name="f", response={"$class": "Part", "value": 1}),
    Point(x=1),
    [Point(x=1, when=date(2020, 1, 2))],
    {"pair": Pair(1, "b")},
    {"text": "\ud800", "place": Point(x=1)},
    RequestInput(message="How many?"),
    "x" * 10_000_000,
]


@pytest.mark.parametrize("value", ITSELF, ids=lambda value: repr(value)[:40])
def test_it_comes_back_as_it_was(value):
    assert unpack(pack(value)) == value


def test_a_part_comes_back_as_a_part():
    back = unpack(pack({"part": PART}))["part"]
    assert isinstance(back, types.Part)
    assert back.inline_data.data == b"\x00\xff"


def test_nan_comes_back_as_nan():
    assert math.isnan(unpack(pack({"x": math.nan}))["x"])


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ((1, 2), [1, 2]),
        ({7}, [7]),
        ({1: "one"}, {"1": "one"}),
        (date(2020, 1, 2), "2020-01-02"),
        (datetime(2020, 1, 2, 3, 4, tzinfo=UTC), "2020-01-02T03:04:00Z"),
        (timedelta(seconds=90), "PT1M30S"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/tmp/x"), "/tmp/x"),
        (Color.RED, "red"),
    ],
    ids=repr,
)
def test_what_is_no_json_comes_back_as_the_json_of_it(value, back):
    assert unpack(pack(value)) == back


@pytest.mark.parametrize("value", [object(), print, {"x": [lambda: 1]}], ids=repr)
def test_what_has_no_json_is_a_type_error(value):
    with pytest.raises(TypeError):
        pack(value)


def refused(value: object) -> type[BaseException] | None:
    # Without the value, which is too deep for pytest to show.
    try:
        pack(value)
    except (TypeError, RecursionError) as error:
        return type(error)
    return None


def test_what_holds_itself_is_a_type_error():
    value: dict = {}
    value["self"] = value
    kind = refused(value)
    value.clear()
    assert kind is TypeError


def test_what_is_too_deep_is_a_type_error():
    value: list = []
    for _ in range(5_000):
        value = [value]
    kind = refused(value)
    value.clear()
    assert kind is TypeError


def test_a_lone_surrogate_beside_what_is_no_json():
    value = {"text": "\ud800", "when": date(2020, 1, 2)}
    assert unpack(pack(value)) == {"text": "\ud800", "when": "2020-01-02"}


def test_an_event_comes_back_as_a_new_one():
    event = Event(author="a", actions=EventActions(state_delta={"k": 1}))
    back = unpack(pack(event))
    assert (back.author, back.actions) == (event.author, event.actions)
    assert back.id not in ("", event.id)


def test_a_model_of_a_class_that_is_not_known_here_looks_the_same():
    class Local(BaseModel):
        x: int = 1

    back = unpack(pack(Local()))
    assert isinstance(back, BaseModel)
    assert back.model_dump() == {"x": 1}


def test_nothing_is_imported_for_a_payload():
    name = "antigravity:Anything"
    unpack(json.dumps({"$class": name, "value": {"x": 1}}))
    assert "antigravity" not in sys.modules


def test_a_payload_is_json():
    assert json.loads(pack({"a": PART, "b": b"\xff"}))["b"] == {"$bytes": "/w=="}
