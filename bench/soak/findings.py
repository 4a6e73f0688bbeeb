"""What a soak has found: what the database holds, against what must be there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from adk_oban import AdkOban
from adk_oban.errors import JobFailedError
from adk_oban.events import JobEvent
from bench.database import Database
from bench.soak import notes
from bench.soak.clerk import STAGES, answer
from bench.soak.followers import Amiss
from bench.soak.killer import Kill
from bench.soak.notes import Run
from bench.soak.soak import Soaked

_RECORDED = 0.5  # seconds after which what was done is recorded for sure

_CURSORS = """
SELECT job_id, array_agg(job_id || '-' || id ORDER BY id)
FROM adk_oban_events GROUP BY job_id
"""
_ANSWERED = """
SELECT (args ->> 'job')::int, extract(epoch FROM answered_at)::float8
FROM adk_oban_approvals WHERE state IN ('approved', 'rejected')
"""

type Story = list[tuple[str, ...]]
"""What happened in a job, in order, whatever it was interrupted by."""


@dataclass(slots=True)
class Runs:
    """How often tools, or models, have run.

    Attributes:
        expected: How often they would have without kills.
        done: How often they did.
        cut_off: How many did not end, since their process was killed.
        needless: How many ran again that were not.
    """

    expected: int = 0
    done: int = 0
    cut_off: int = 0
    needless: int = 0

    @property
    def repeated(self) -> int:
        """How many ran once more."""
        return self.done - self.expected


@dataclass(slots=True)
class Findings:
    """What a soak has found.

    Attributes:
        right: How many jobs ended with the right answer.
        wrong: How many ended with another one, or none.
        stuck: How many did not end.
        misheard: How many questions that two answered at once have taken both, or none.
        retold: How many jobs tell what happened otherwise than once and in order.
        tools: How often tools have run.
        models: How often models were called.
        seen: How many events all followers saw.
        there: How many they should have seen.
        gaps: How many of these they did not see.
        repeats: How many they saw twice.
        disorder: How many they saw too late.
        waits: Seconds from each answer until its job went on.
        failures: What is wrong, in words.
    """

    right: int = 0
    wrong: int = 0
    stuck: int = 0
    misheard: int = 0
    retold: int = 0
    tools: Runs = field(default_factory=Runs)
    models: Runs = field(default_factory=Runs)
    seen: int = 0
    there: int = 0
    gaps: int = 0
    repeats: int = 0
    disorder: int = 0
    waits: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


async def find(soaked: Soaked, database: Database) -> Findings:
    """Look at everything that is left."""
    found = Findings()
    async with AdkOban(database.dsn) as jobs:
        for number, job_id in enumerate(soaked.ids):
            await _judge(found, jobs, soaked, number, job_id)
    rows = await (await database.conn.execute(_CURSORS)).fetchall()
    _follow(found, soaked, dict(rows))
    runs = await notes.read(database.conn)
    _count(found, soaked, runs)
    answered = await (await database.conn.execute(_ANSWERED)).fetchall()
    found.waits = _waits(runs, answered)
    for question, said in soaked.desk.said.items():
        if len(said) != 1:
            found.misheard += 1
            found.failures.append(f"{question}: taken {said!r}")
    return found


async def _judge(
    found: Findings, jobs: AdkOban, soaked: Soaked, number: int, job_id: int
) -> None:
    """Look at a job's end, and at what it tells of itself."""
    status = await jobs.get_status(job_id)
    state = "gone" if status is None else status.state
    if state not in ("completed", "discarded", "cancelled"):
        found.stuck += 1
        found.failures.append(f"job {job_id} is {state}: {status}")
        return
    try:
        result = await jobs.get_result(job_id)
        text = "nothing" if result is None else result.text
    except JobFailedError as error:
        text = str(error)
    verdicts = soaked.desk.verdicts(number)
    expected = answer(number, verdicts) if len(verdicts) == len(STAGES) else None
    if text == expected:
        found.right += 1
    else:
        found.wrong += 1
        found.failures.append(f"job {job_id}: {text!r} instead of {expected!r}")
    told = _told([event async for event in jobs.events(job_id)])
    if told != _STORY:
        found.retold += 1
        found.failures.append(f"job {job_id} tells {told}")


def _told(events: Iterable[JobEvent]) -> Story:
    told: Story = []
    for event in events:
        if event.type != "event":
            told.append((event.type,))
        told += [("calls", call["name"]) for call in event.tool_calls]
        told += [("result", result["name"]) for result in event.tool_results]
        if event.type == "event" and event.text:
            told.append(("says",))
    return [each for each in told if each != ("rescued",)]


def _story() -> Story:
    told: Story = []
    for stage in STAGES:
        called, returned = ("calls", stage), ("result", stage)
        # Until somebody has answered, the tool returns that it waits.
        told += [called, ("calls", "adk_request_confirmation"), returned]
        told += [("paused",), ("answered",), returned]
    return [*told, ("says",), ("completed",)]


_STORY = _story()


def _follow(found: Findings, soaked: Soaked, there: dict[int, list[str]]) -> None:
    """Compare what the followers saw with what there is."""
    for number, follower in enumerate(soaked.followers):
        for job_id, seen in follower.seen.items():
            cursors = there.get(job_id, [])
            amiss = Amiss.of(seen, cursors)
            found.seen += len(seen)
            found.there += len(cursors)
            found.gaps += amiss.gaps
            found.repeats += amiss.repeats
            found.disorder += amiss.disorder
            if seen != cursors:
                found.failures.append(
                    f"follower {number} saw {seen} of job {job_id}: {amiss}, {cursors}"
                )


def _count(found: Findings, soaked: Soaked, runs: Sequence[Run]) -> None:
    """Count what has run, and what has run again without need."""
    said = soaked.desk.said.values()
    found.tools.expected = sum(not each.reason for one in said for each in one[:1])
    found.models.expected = len(soaked.ids) * (len(STAGES) + 1)
    before: dict[tuple[int, str], Run] = {}
    for run in runs:
        kind = found.tools if run.is_tool else found.models
        kind.done += 1
        kind.cut_off += run.ended is None
        earlier = before.get((run.job, run.what))
        if earlier is not None and not _cut_off(earlier, soaked.kills):
            kind.needless += 1
            found.failures.append(f"{earlier} again as {run}")
        before[run.job, run.what] = run


def _cut_off(run: Run, kills: Iterable[Kill]) -> bool:
    """Whether its process was killed before it could be recorded."""
    ended = run.ended or float("inf")
    return any(
        kill.pid == run.pid and run.began <= kill.at <= ended + _RECORDED
        for kill in kills
    )


def _waits(runs: Iterable[Run], answered: Iterable[tuple[int, float]]) -> list[float]:
    """Return how long after each answer something of its job ran."""
    began: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        began[run.job].append(run.began)
    waits = []
    for job, at in answered:
        later = [each - at for each in began[job] if each > at]
        waits += later[:1]
    return waits
