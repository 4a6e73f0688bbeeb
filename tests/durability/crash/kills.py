"""The SIGKILL mode: a worker process dies at a point, and another one goes on.

Both are forked from this process, which has imported everything already.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from . import snapshot
from .effects import effects
from .points import TRIES, instrumented, killing, points
from .process import fork, output, wait
from .rig import Rig
from .verdict import Counts, Crashed, Reference, Verdict, judge
from .visit import TIMEOUT, await_end, earlier, enqueue
from .zoo import Kind

WORKS: dict[str, Any] = {"queues": {"agents": 1}}


def crash(
    kind: Kind, rig: Rig, reference: Reference, numbers: Iterable[int]
) -> list[Verdict]:
    """Crash a kind's job once at each of these points by SIGKILL."""
    return [_crash_at(kind, rig, reference, number) for number in numbers]


def _crash_at(kind: Kind, rig: Rig, reference: Reference, number: int) -> Verdict:
    note = rig.folder / "point"
    for _ in range(TRIES):
        rig.clear()
        note.write_text(reference.points[number])
        died = wait(fork(lambda: asyncio.run(_first(kind, rig, number)), rig.folder))
        if died == -signal.SIGKILL:
            break
    job, before, seen = _look(kind, rig)
    ended = wait(fork(lambda: asyncio.run(_second(kind, rig, job)), rig.folder))
    crashed = Crashed(
        # Where branches run side by side, it need not be that of the dry run.
        point=f"{number} {note.read_text()}",
        mode="SIGKILL",
        reached=died == -signal.SIGKILL,
        at_crash=seen[0],
        recorded=seen[1],
        visible=[seen[2]],
        before=before,
        end=snapshot.take(rig.conn, job, ordered=kind.ordered),
        begun=effects.begun(),
        row=snapshot.row(rig.conn, job),
    )
    verdict = judge(kind, reference, crashed)
    if ended != 0:
        verdict.differences.insert(0, f"the second worker said: {output(rig.folder)}")
    return verdict


def _look(kind: Kind, rig: Rig) -> tuple[int, int, tuple[Counts, Counter[Any], int]]:
    """Return the job, the number of events before it, and what is there now."""
    newest = rig.conn.execute("SELECT max(id) FROM oban_jobs").fetchone()
    assert newest is not None
    assert newest[0] is not None, f"the first worker said: {output(rig.folder)}"
    note = (rig.folder / "before").read_text()
    events = snapshot.turns(rig.conn)[0]
    recorded = snapshot.recorded(rig.conn, newest[0])
    return newest[0], int(note), (effects.begun(), recorded, events)


async def _first(kind: Kind, rig: Rig, number: int) -> None:
    with instrumented():
        async with rig.serve(kind, **WORKS):
            points.start()
            await earlier(kind, await_end)
            await _committed(len(kind.messages) - 1)
            before = snapshot.turns(rig.conn)[0]
            (rig.folder / "before").write_text(str(before))
            points.start(at=number, crash=killing(rig.folder / "point"))
            await await_end(kind, await enqueue(kind, kind.messages[-1]))


async def _committed(turns: int) -> None:
    """Wait until this process, too, knows that the earlier turns have landed."""
    deadline = time.monotonic() + TIMEOUT
    while sum(label.startswith("after commit") for label in points.seen) < turns:
        assert time.monotonic() < deadline, points.seen
        await asyncio.sleep(0.005)


async def _second(kind: Kind, rig: Rig, job_id: int) -> None:
    async with rig.serve(kind, **WORKS) as jobs:
        job = await jobs.get_job(job_id)
        assert job is not None
        await await_end(kind, job)
