"""What a crash cost: the job that was crashed, compared with one that was not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from .snapshot import Row, Snapshot
from .zoo import Kind

CRASHES = ("exception", "SIGKILL")
"""The modes in which an attempt ends at the point."""

type Counts = Counter[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Reference:
    """What an uninterrupted job passes and leaves.

    Attributes:
        points: The crash points, in order.
        end: What it left.
        begun: The bodies that it began.
        halves: Where a reader of the session saw half a turn.
        parts: How many events a reader saw after each attempt: of one that paused, its
            part of the turn.
    """

    points: list[str]
    end: Snapshot
    begun: Counts
    halves: list[str]
    parts: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Crashed:
    """What was seen of a job that was crashed.

    Attributes:
        point: Where.
        mode: How: `"exception"`, `"SIGKILL"`, or something that is no crash.
        reached: Whether it came there.
        at_crash: The bodies that had begun when the attempt was over.
        recorded: The steps that the journal held then, by kind and name.
        visible: What a reader of the session saw then: the number of events.
        before: How many events the session had before.
        end: What the job left.
        begun: The bodies that had begun in all.
        row: Oban's row at the end.
    """

    point: str
    mode: str
    reached: bool
    at_crash: Counts
    recorded: Counter[tuple[str, str]]
    visible: list[int]
    before: int
    end: Snapshot
    begun: Counts
    row: Row


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one point.

    Attributes:
        point: Which.
        doubled: How many bodies that were in flight ran again.
        differences: What should be equal and is not.
    """

    point: str
    doubled: int = 0
    differences: list[str] = field(default_factory=list)


def differing(verdicts: Iterable[Verdict]) -> str:
    """Return what differs, as text; empty when all points were clean."""
    return "\n".join(
        "\n  - ".join([verdict.point, *verdict.differences[:4]])
        for verdict in verdicts
        if verdict.differences
    )


def judge(kind: Kind, reference: Reference, crashed: Crashed) -> Verdict:
    """Compare a crashed job with the uninterrupted one."""
    found: list[str] = []
    if not crashed.reached:
        found.append("the point was not reached")
    if crashed.row.state != "completed":
        found.append(f"the job is {crashed.row.state}: {_last(crashed.row.errors)}")
    elif crashed.row.attempt not in _attempts(kind, crashed):
        found.append(f"the job took {crashed.row.attempt} attempts")
    whole = len(reference.end.events)
    for seen in crashed.visible:
        if seen not in (crashed.before, *reference.parts, whole):
            found.append(f"a reader saw {seen} of {whole} events")
    doubled = _doubled(kind, reference, crashed, found)
    found += compare(reference.end, crashed.end)
    return Verdict(crashed.point, doubled, found)


def _attempts(kind: Kind, crashed: Crashed) -> tuple[int, ...]:
    """Return how many attempts a job may take, beside those that are given back."""
    if crashed.mode not in CRASHES:
        return (1, 2, 3)
    # Which completes the job as well, or lets it wait.
    if "after commit" in crashed.point or "after ask" in crashed.point:
        return (1,)
    if kind.never_twice:  # the attempt that ends with a question is given back
        return (1, 2)
    # Of steps that cannot be written together, each is written by itself.
    several = crashed.mode == "exception" and crashed.point.count(" + ") > 1
    return (1, 2) if several else (2,)


def compare(expected: Snapshot, got: Snapshot) -> list[str]:
    """Return what differs between what two jobs left."""
    found = []
    if expected.events != got.events:
        found.append(_events(expected.events, got.events))
    for name in ("state", "user_state", "app_state", "result", "ledger"):
        left, right = getattr(expected, name), getattr(got, name)
        if left != right:
            found.append(f"{name}: {_first(left, right)}")
    return found


def _doubled(
    kind: Kind, reference: Reference, crashed: Crashed, found: list[str]
) -> int:
    """Count what ran twice, and say what must not have."""
    flying = _in_flight(crashed)
    for name in kind.conductors:
        del flying["node", name]
    for what, times in (crashed.begun - reference.begun).items():
        body = f"{what[0]} {what[1]}({what[2]})"
        if what not in reference.begun:
            found.append(f"{body} ran, and does not in an uninterrupted run")
        elif what[1] in kind.never_twice:
            found.append(f"{body} ran {times} times more")
    for what in (reference.begun - crashed.begun).keys():
        found.append(f"{what[0]} {what[1]}({what[2]}) did not run often enough")
    doubled = Counter(
        {
            what: times
            for what, times in (crashed.begun - reference.begun).items()
            if what[1] not in kind.conductors
        }
    )
    if crashed.mode not in CRASHES:
        if doubled.total() > kind.width:
            found.append(f"{dict(doubled)} ran again, and {kind.width} may")
        return doubled.total()
    for name, times in _by_name(doubled).items():
        if times > flying[name]:
            found.append(
                f"{name[0]} {name[1]} ran {times} times more, and {flying[name]} "
                f"were in flight; recorded: {dict(crashed.recorded)}"
            )
    if flying.total() > kind.width:
        found.append(f"{dict(flying)} were not recorded, and {kind.width} may be")
    return doubled.total()


def _in_flight(crashed: Crashed) -> Counter[tuple[str, str]]:
    """What had begun and was not in the journal."""
    return _by_name(crashed.at_crash) - crashed.recorded


def _by_name(counts: Counts) -> Counter[tuple[str, str]]:
    names: Counter[tuple[str, str]] = Counter()
    for (kind, name, _), times in counts.items():
        names[kind, name] += times
    return names


def _last(errors: list[Any]) -> str:
    return str(errors[-1])[-1200:] if errors else "no error"


def _events(expected: list[dict[str, Any]], got: list[dict[str, Any]]) -> str:
    for number, (left, right) in enumerate(zip_longest(expected, got)):
        if left != right:
            many = f"{len(got)} events instead of {len(expected)}; " * (
                len(got) != len(expected)
            )
            return f"{many}event {number}: {_first(left, right)}"
    return ""


def _first(left: Any, right: Any, path: str = "") -> str:
    """Return where two values first differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(key for key in right if key not in left)]:
            if left.get(key) != right.get(key):
                return _first(left.get(key), right.get(key), f"{path}.{key}")
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            if one != other:
                return _first(one, other, f"{path}[{number}]")
    return f"{path} is {_short(right)}, expected {_short(left)}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) < 400 else text[:400] + "…"
