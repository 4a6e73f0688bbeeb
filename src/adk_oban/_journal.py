"""The journal of one attempt: it answers what is recorded, and records the rest."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from ._answers import Answers
from ._bodies import Bodies
from ._clock import Clock, real_now
from ._fingerprint import Fingerprint, short_digest
from ._in_flight import InFlight
from ._raised import encode_error, is_behind
from ._replay_order import ReplayOrder
from ._steps import Owner, Step, Steps
from ._tally import Tally
from ._verdict import Interruption, NotOwner
from .telemetry import STEP, emit

current: ContextVar[Journal | None] = ContextVar("adk_oban_journal", default=None)
"""The journal of the job that runs in this context; None outside jobs."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Where steps come one after another: a kind, an agent, a branch.

    Attributes:
        kind: `"model"`, `"tool"` or `"node"`.
        agent: The agent's name.
        branch: ADK's branch, without the numbers of runs.
    """

    kind: str
    agent: str
    branch: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A step that is about to be done.

    Attributes:
        lane: Where it is.
        name: What is called.
        key: The digest of its lane and request.
        ordinal: Which one of those with this key.
        fingerprint: Of its request.
        recorded: What is recorded of it; None when nothing is.
        changed: The parts in which the request that was recorded in its place differs.
    """

    lane: Lane
    name: str
    key: str
    ordinal: int
    fingerprint: Fingerprint
    recorded: Step | None
    changed: tuple[str, ...] = ()

    @property
    def payload(self) -> str | None:
        """What was recorded as its outcome; None: it is to be done."""
        step = self.recorded
        return step.payload if step is not None and step.state == "done" else None


class Journal:
    """What one attempt knows of its job's steps, and adds to them.

    Args:
        owner: The attempt that writes.
        steps: Where they are written.
        recorded: The steps that earlier attempts wrote.
        clock: The invocation's time, which moves with the steps.
        tool_timeout: How many seconds a tool gets; for all, or by name.
        model_timeout: How many seconds a model call gets; for all, or by model.
        written: Which steps this attempt has written already, when it runs again since
            its session was written meanwhile.
        told: Which steps it has told of.
        segment: Which part of the invocation it is, between pauses.
        answers: What people have answered.
        tally: What the parts before were made of.
    """

    def __init__(
        self,
        owner: Owner,
        steps: Steps,
        recorded: Iterable[Step],
        clock: Clock,
        *,
        tool_timeout: float | Mapping[str, float] | None = None,
        model_timeout: float | Mapping[str, float] | None = None,
        written: Iterable[tuple[str, int]] = (),
        told: Iterable[tuple[str, int]] = (),
        segment: int = 0,
        answers: Answers | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.owner = owner
        self.steps = steps
        self.answers = answers or Answers()
        self.in_flight = InFlight()
        self.tally = tally or Tally()
        self.verdict: Interruption | Exception | None = None
        self._clock = clock
        self._tool_timeout = tool_timeout
        self._model_timeout = model_timeout
        self.bodies = Bodies()
        self._closed = False
        self._segment = segment
        self._recorded: dict[tuple[str, int], Step] = {}
        self._unused: dict[Lane, dict[tuple[str, int], Step]] = defaultdict(dict)
        order: list[tuple[int, str]] = []
        for step in recorded:
            if step.state == "done":
                order.append((step.id or 0, step.branch))
            place = (step.key, step.ordinal)
            self._recorded[place] = step
            self._unused[Lane(step.kind, step.agent, step.branch)][place] = step
        self.written = set(written)
        self.told = set(told)
        self._raised: list[tuple[Entry, Exception]] = []
        self._unwritten: list[Step] = []
        self._queue = ReplayOrder(order)
        self.begun: set[tuple[str, int]] = set()
        self._last_answer: tuple[str, int] | None = None
        self._next: Counter[str] = Counter()
        self._free: dict[str, list[int]] = defaultdict(list)

    def begin(self, lane: Lane, name: str, fingerprint: Fingerprint) -> Entry:
        """Return the entry of a step: either with what it returned, or to be done.

        Raises:
            NotOwner: The journal is closed.
        """
        if self._closed:
            raise self.ended(NotOwner())
        key = short_digest(lane.kind, lane.agent, lane.branch, fingerprint.digest)
        ordinal = self._take(key)
        recorded = self._recorded.get((key, ordinal))
        unused = self._unused[lane]
        if recorded is not None:
            unused.pop((key, ordinal), None)
        changed: tuple[str, ...] = ()
        if lane.kind == "model":
            # An agent's calls come one after another, so what is left is what was asked
            # in this one's place; tools and nodes may run side by side.
            if recorded is None and unused:
                changed = fingerprint.differs_from(unused.pop(next(iter(unused))).parts)
            self.tally.model_calls += 1
            self._last_answer = (key, ordinal)
        return Entry(lane, name, key, ordinal, fingerprint, recorded, changed)

    def number(self, lane: Lane, fingerprint: Fingerprint) -> str:
        """Return what names a call that is no step: the same on all attempts."""
        key = short_digest(lane.kind, lane.agent, lane.branch, fingerprint.digest)
        return f"{key}:{self._take(key)}"

    def release(self, entry: Entry) -> None:
        """Take an entry back that came to nothing: the next of its kind is its heir."""
        heappush(self._free[entry.key], entry.ordinal)

    def failed(self, entry: Entry, error: Exception) -> None:
        """Note what a step raised.

        If the agent goes on from there, a callback of the user's has made an answer of
        it; it is then recorded, since it has led there. Otherwise the attempt ends with
        it, and the next one does the step again.
        """
        self._raised.append((entry, error))
        self._unwritten.append(
            self._step(entry, "done", encode_error(error), None, None)
        )

    async def goes_on(self, lane: Lane) -> None:
        """Record the errors that an agent made an answer of, now that it goes on."""
        answered = [s for s in self._unwritten if _leads_to(s.branch, lane.branch)]
        if answered:
            self._unwritten = [s for s in self._unwritten if s not in answered]
            await self._write(*answered)

    async def raised_again(self, entry: Entry, error: Exception) -> None:
        """Note that a step is answered by the error that is recorded."""
        await self.replayed(entry)
        self._raised.append((entry, error))

    async def forget_what_led_to(self, outcome: Exception) -> None:
        """Forget recorded errors that ended the attempt, lest they end the next one."""
        for entry, error in self._raised:
            if is_behind(error, outcome):
                await self._forget(entry)

    def key_of(self, entry: Entry) -> str:
        """Return what names a step, and no other, on all attempts."""
        return short_digest(self._clock.seed, entry.key, str(entry.ordinal))

    async def replayed(self, entry: Entry) -> None:
        """Note that a step is answered by what is recorded, when its turn has come."""
        step = entry.recorded
        assert step is not None  # noqa: S101  (callers have its payload)
        await self._queue.wait(step.id or 0, step.branch)
        self._clock.advance(step.recorded_at)
        self.tally.usage.update(step.usage or {})
        if (entry.key, entry.ordinal) in self.written:
            self._count_live(entry, "live")
        else:
            self.tally.steps["replayed"] += 1
            self.tally.saved.update(step.usage or {})
        self._tell(entry, "replayed", step.duration, step.usage)

    async def started(self, entry: Entry) -> None:
        """Record that a step is about to be done.

        Raises:
            NotOwner: The job is somebody else's.
        """
        step = self._step(entry, "started", None, None, None)
        writing = asyncio.ensure_future(self._write(step))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            # What has not begun leaves no question behind.
            await asyncio.wait({writing})
            await self._forget(entry)
            raise
        self.begun.add((entry.key, entry.ordinal))

    async def raised(self, entry: Entry, error: BaseException) -> None:
        """Record what a step raised, after `started`."""
        shown = f"{type(error).__name__}: {error}"
        await self._write(self._step(entry, "raised", shown, None, None))

    async def done(
        self,
        entry: Entry,
        payload: str,
        duration: float,
        *,
        usage: dict[str, int] | None = None,
        conn: Any = None,
    ) -> None:
        """Record what a step returned; when this returns, it is never done again.

        Args:
            entry: The step.
            payload: What it returned, as JSON.
            duration: How many seconds it took.
            usage: A model call's token counts.
            conn: The connection of a transaction that the record becomes part of.

        Raises:
            NotOwner: The job is somebody else's; nothing was written.
        """
        step = self._step(entry, "done", payload, usage, duration)
        if conn is None:
            await self._write(step)
        elif not all(await self.steps.save([(self.owner, step)], conn=conn)):
            raise self.ended(NotOwner())
        if conn is None:
            await self._queue.follow(step.branch)
        self.begun.discard((entry.key, entry.ordinal))
        self._clock.advance(step.recorded_at)
        source = "changed" if entry.changed else "live"
        self.written.add((entry.key, entry.ordinal))
        self.tally.usage.update(usage or {})
        self._count_live(entry, source)
        self._tell(entry, source, duration, usage)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the journal of all steps in this context."""
        token = current.set(self)
        try:
            yield
        finally:
            current.reset(token)

    async def forget_last_answer(self) -> None:
        """Delete the last model call, so that the next attempt asks the model anew."""
        if self._last_answer is not None:
            key, ordinal = self._last_answer
            await self.steps.forget(self.owner, key, ordinal, segment=self._segment)

    def timeout_of(self, tool: str) -> float | None:
        """Return how many seconds a tool gets; None: as many as it takes."""
        return _limit(self._tool_timeout, tool)

    def model_timeout_of(self, model: str) -> float | None:
        """Return how many seconds a call of a model gets; None: as many as it takes."""
        return _limit(self._model_timeout, model)

    def close(self) -> None:
        """Take nothing more: the attempt ends without what still runs."""
        self._closed = True
        self.bodies.leave_behind()

    def ended[E: Interruption | Exception](self, by: E) -> E:
        """Note what ends the attempt, also where the agent's code wraps it."""
        self.verdict = by
        return by

    def _count_live(self, entry: Entry, source: str) -> None:
        self.tally.steps[source] += 1
        self.tally.live_calls += entry.lane.kind == "model"

    async def forget(self, entry: Entry) -> None:
        """Delete what is recorded of a step, as if it had not begun."""
        await self._forget(entry)
        self.begun.discard((entry.key, entry.ordinal))
        self.release(entry)

    async def _forget(self, entry: Entry) -> None:
        place = (entry.key, entry.ordinal)
        await self.steps.forget(self.owner, *place, segment=self._segment)

    def _take(self, key: str) -> int:
        if self._free[key]:
            return heappop(self._free[key])
        ordinal = self._next[key]
        self._next[key] += 1
        return ordinal

    async def _write(self, *steps: Step) -> None:
        if self._closed:
            raise self.ended(NotOwner())
        records = [self.steps.record(self.owner, step) for step in steps]
        try:
            owned = await asyncio.gather(*records)
        except Exception as error:
            # No callback may make an answer of it: what is not recorded did not happen.
            raise self.ended(error)  # noqa: B904  (it is the same one)
        if not all(owned):
            raise self.ended(NotOwner())

    def _step(
        self,
        entry: Entry,
        state: str,
        payload: str | None,
        usage: dict[str, int] | None,
        duration: float | None,
    ) -> Step:
        return Step(
            job_id=self.owner.job_id,
            segment=self._segment,
            key=entry.key,
            ordinal=entry.ordinal,
            kind=entry.lane.kind,
            name=entry.name,
            agent=entry.lane.agent,
            branch=entry.lane.branch,
            state=state,
            parts=entry.fingerprint.parts,
            payload=payload,
            usage=usage,
            attempt=self.owner.attempt,
            duration=duration,
            began_at=self._clock.began_at,
            recorded_at=real_now(),
        )

    def _tell(
        self,
        entry: Entry,
        source: str,
        duration: float | None,
        usage: dict[str, int] | None,
    ) -> None:
        if (entry.key, entry.ordinal) in self.told:
            return
        self.told.add((entry.key, entry.ordinal))
        emit(
            STEP,
            {
                "job_id": self.owner.job_id,
                "attempt": self.owner.attempt,
                "kind": entry.lane.kind,
                "name": entry.name,
                "agent": entry.lane.agent,
                "branch": entry.lane.branch,
                "source": source,
                "changed": list(entry.changed),
                "duration": None if duration is None else round(duration * 1000, 2),
                "usage": usage or {},
            },
        )


def _limit(limit: float | Mapping[str, float] | None, name: str) -> float | None:
    return limit.get(name) if isinstance(limit, Mapping) else limit


def _leads_to(branch: str, later: str) -> bool:
    """Return whether what comes later in a branch comes after what was in another."""
    return branch == later or not later or branch.startswith(f"{later}.")
