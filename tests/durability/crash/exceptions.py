"""The exception mode: a job fails at a point, and is retried, all in one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from adk_oban import AdkOban

from . import snapshot
from .effects import effects
from .points import TRIES, CrashError, fail, instrumented, points
from .rig import Rig
from .verdict import Counts, Crashed, Reference, Verdict, compare, judge
from .visit import earlier, enqueue, run_here
from .zoo import Kind


async def reference(kind: Kind, rig: Rig, *, times: int = 2) -> Reference:
    """Run a kind's job without a crash, twice, since it must always leave the same.

    Raises:
        AssertionError: It does not, so that it cannot be compared with.
    """
    with instrumented():
        async with rig.serve(kind) as jobs:
            runs = [await _uninterrupted(kind, rig, jobs) for _ in range(times)]
    first, last = runs[0], runs[-1]
    different = compare(first.end, last.end)
    if first.begun != last.begun:
        different.append(f"{first.begun - last.begun}, {last.begun - first.begun}")
    assert not different, f"{kind.name} does not do the same twice: {different}"
    return first


async def crash(
    kind: Kind, rig: Rig, reference: Reference, numbers: Iterable[int]
) -> list[Verdict]:
    """Crash a kind's job once at each of these points by an exception."""
    with instrumented():
        async with rig.serve(kind) as jobs:
            return [
                await _crash_near(kind, rig, jobs, reference, number)
                for number in numbers
            ]


async def _uninterrupted(kind: Kind, rig: Rig, jobs: AdkOban) -> Reference:
    rig.clear()
    await earlier(kind, lambda kind, job: run_here(kind, jobs, job))
    before = snapshot.turns(rig.conn)[0]
    seen: list[tuple[str, int]] = []
    job = await enqueue(kind, kind.messages[-1])
    points.start(watch=lambda at: seen.append((at, snapshot.turns(rig.conn)[0])))
    parts: list[int] = []
    await run_here(kind, jobs, job, lambda: parts.append(snapshot.turns(rig.conn)[0]))
    points.stop()
    row = snapshot.row(rig.conn, job.id)
    assert row.state == "completed", f"{kind.name} is {row.state}: {row.errors}"
    end = snapshot.take(rig.conn, job.id, ordered=kind.ordered)
    whole = len(end.events)
    halves = [
        f"a reader saw {events} of {whole} events {label}"
        for label, events in seen
        if events not in (before, *parts, whole)
    ]
    return Reference(list(points.seen), end, effects.begun(), halves, parts)


async def _crash_near(
    kind: Kind, rig: Rig, jobs: AdkOban, reference: Reference, number: int
) -> Verdict:
    for _ in range(TRIES):
        verdict = await _crash_at(kind, rig, jobs, reference, number)
        if points.crashed:
            break
    return verdict


async def _crash_at(
    kind: Kind, rig: Rig, jobs: AdkOban, reference: Reference, number: int
) -> Verdict:
    rig.clear()
    await earlier(kind, lambda kind, job: run_here(kind, jobs, job))
    before = snapshot.turns(rig.conn)[0]
    visible: list[int] = []
    # After the attempt that crashed: what had begun, and what was recorded.
    seen: list[tuple[Counts, Counter[tuple[str, str]]]] = []
    job = await enqueue(kind, kind.messages[-1])

    def look() -> None:
        visible.append(snapshot.turns(rig.conn)[0])
        if points.crashed:
            seen.append((effects.begun(), snapshot.recorded(rig.conn, job.id)))

    def crash(label: str) -> None:
        recorded_then.update(snapshot.recorded(rig.conn, job.id))
        fail(label)

    recorded_then: Counter[tuple[str, str]] = Counter()
    points.start(at=number, crash=crash)
    stuck: list[str] = []
    try:
        await run_here(kind, jobs, job, look)
    except (AssertionError, CrashError) as error:
        stuck.append(str(error))
    points.stop()
    at_crash, recorded = seen[0] if seen else (Counter(), Counter())
    label = points.seen[number] if points.crashed else reference.points[number]
    crashed = Crashed(
        point=f"{number} {label}",
        mode="exception",
        reached=points.crashed,
        at_crash=at_crash,
        # Both are, what was recorded then and what the attempt still recorded.
        recorded=recorded | recorded_then,
        visible=visible,
        before=before,
        end=snapshot.take(rig.conn, job.id, ordered=kind.ordered),
        begun=effects.begun(),
        row=snapshot.row(rig.conn, job.id),
    )
    verdict = judge(kind, reference, crashed)
    verdict.differences[:0] = stuck
    return verdict
