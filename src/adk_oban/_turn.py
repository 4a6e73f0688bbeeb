"""A turn: what one invocation adds to its session, all of it or nothing.

Reading and committing it is in `_turns.py`; here is how the statements have it.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from google.adk.events import Event
from google.adk.sessions import Session
from google.adk.sessions.base_session_service import GetSessionConfig
from pydantic import TypeAdapter

from ._clock import real_now
from ._codec import decode, encode, encode_event, encode_state, merge_state
from ._question import Question
from ._results import Outcome
from ._steps import Owner, Step
from ._stream import Stream
from .approvals import Approval

_TICK = timedelta(microseconds=1)
_events = TypeAdapter(list[Event])


@dataclass(frozen=True, slots=True)
class Ask:
    """What an attempt wants to read before it begins.

    Attributes:
        job_id: The job's id.
        app_name: ADK's app name.
        user_id: ADK's user id.
        session_id: ADK's session id.
        ordered: Whether it waits for earlier jobs of its session.
        config: Which of the session's events (default: all of them).
    """

    job_id: int
    app_name: str
    user_id: str
    session_id: str
    ordered: bool = True
    config: GetSessionConfig | None = None


@dataclass(slots=True)
class Turn:
    """A session as it was read, and what an invocation adds to it.

    Attributes:
        session: The session, with what was added so far.
        steps: What earlier attempts recorded.
        completed: Whether the job has landed its turn already.
        waits: Whether an earlier job of the session has not ended.
        marker: The session's revision when it was read; None when there was none.
        last_event_at: When its last event was, by its row.
        cancelled_at: The attempt that was cancelled and may have left a part, or 0.
        is_cancelled: Whether the job is to be cancelled.
        segment: Which part of the invocation it is, between pauses; from 0.
        approvals: What was asked at the end of the part before, and in this one.
        shown: The keys of the job's events that are kept already.
        added: The events that were appended since.
        stream: What the attempt shows to those who follow the job.
    """

    session: Session
    steps: list[Step]
    completed: bool
    waits: bool
    marker: datetime | None
    last_event_at: datetime | None
    cancelled_at: int = 0
    is_cancelled: bool = False
    segment: int = 0
    approvals: list[Approval] = field(default_factory=list)
    shown: frozenset[str] = frozenset()
    added: list[Event] = field(default_factory=list)
    stream: Stream | None = None


@dataclass(frozen=True, slots=True)
class Landing:
    """A turn that is to be committed.

    Attributes:
        owner: The attempt.
        turn: What it read and added.
        outcome: What it ended with.
        ends: What becomes of the job: `"completed"`, `"cancelled"` or `"paused"`.
        questions: What it pauses for.
        tally: What a job that pauses has been made of so far.
        shown: The job's last events, as rows of JSON without `n`.
    """

    owner: Owner
    turn: Turn
    outcome: Outcome
    ends: str = "completed"
    questions: tuple[Question, ...] = ()
    tally: dict[str, Any] = field(default_factory=dict)
    shown: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Landed:
    """What became of a turn.

    Attributes:
        status: `"committed"`; `"moved"`: the session was written meanwhile; `"lost"`:
            the job is somebody else's; `"cancelled"`: it is to be cancelled.
        has_next: Whether another job of the session may wait for this one's end.
    """

    status: str
    has_next: bool


def ask_row(n: int, ask: Ask) -> dict[str, Any]:
    """Return what an attempt asks, as `load_turns.sql` has it."""
    config = ask.config or GetSessionConfig()
    after = config.after_timestamp
    return {
        "n": n,
        "job_id": ask.job_id,
        "app_name": ask.app_name,
        "user_id": ask.user_id,
        "session_id": ask.session_id,
        "recent": config.num_recent_events,
        "after": None if after is None else _naive(after).isoformat(),
        "ordered": ask.ordered,
    }


def turn_of(
    ask: Ask,
    segment: int,
    approvals: str | None,
    shown: str | None,
    update_time: datetime | None,
    session_state: str | None,
    app_state: str | None,
    user_state: str | None,
    events: str | None,
    last_event_at: datetime | None,
    steps: str | None,
    completed: bool,
    cancelled_at: int,
    waits: bool,
    is_cancelled: bool,
) -> Turn:
    """Return the turn of a row of `load_turns.sql`."""
    state = merge_state(
        app=decode(app_state or "{}"),
        user=decode(user_state or "{}"),
        session=decode(session_state or "{}"),
    )
    session = Session(
        app_name=ask.app_name,
        user_id=ask.user_id,
        id=ask.session_id,
        state=state,
        events=_decoded(events) if events else [],
    )
    if update_time is not None:
        session.last_update_time = update_time.replace(tzinfo=UTC).timestamp()
        session._storage_update_marker = update_time.isoformat(timespec="microseconds")
    rows = decode(steps) if steps else []
    return Turn(
        session=session,
        steps=[Step.of(row) for row in rows],
        completed=completed,
        cancelled_at=cancelled_at,
        waits=waits,
        is_cancelled=is_cancelled,
        segment=segment,
        approvals=[Approval.of(row) for row in decode(approvals or "[]")],
        shown=frozenset(decode(shown or "[]")),
        marker=update_time,
        last_event_at=last_event_at,
    )


def _decoded(events: str) -> list[Event]:
    # A long history makes so many objects that Python looks for garbage among them in
    # the middle, which takes longer than to make them, and they are all in use.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _events.validate_json(events)
    finally:
        if was_enabled:
            gc.enable()


def landing_text(n: int, landing: Landing) -> str:
    """Return a turn's row for `commit_turns.sql`, as JSON."""
    turn, outcome = landing.turn, landing.outcome
    session = turn.session
    delta: dict[str, Any] = {}
    for event in turn.added:
        delta.update(event.actions.state_delta)
    times = _times(turn)
    created = times[0] if times else real_now().replace(tzinfo=None)
    update_time = times[-1] if times else created
    if turn.marker is not None:
        # Never back and never the same: no revision may come twice.
        update_time = max(update_time, turn.marker + _TICK)
    head = {
        "n": n,
        "job_id": landing.owner.job_id,
        "attempted_at": landing.owner.attempted_at.isoformat(),
        "ends": landing.ends,
        "tally": landing.tally,
        "app_name": session.app_name,
        "user_id": session.user_id,
        "session_id": session.id,
        "existed": turn.marker is not None,
        "writes": bool(turn.added) or turn.marker is None,
        "marker": None if turn.marker is None else turn.marker.isoformat(),
        "update_time": update_time.isoformat(),
        "create_time": created.isoformat(),
    }
    scopes = encode_state(delta)
    parts = [json.dumps(head)[1:-1]]
    parts += [f'"{scope}": {text}' for scope, text in scopes.items()]
    parts.append(f'"result": {outcome.to_json()}')
    asked = encode([question.row(turn.segment) for question in landing.questions])
    parts.append(f'"approvals": {asked}')
    return "{" + ", ".join(parts) + "}"


def event_rows(n: int, turn: Turn) -> Iterator[str]:
    """Return the rows of the events that a turn adds, each as JSON."""
    for event, timestamp in zip(turn.added, _times(turn), strict=True):
        head = json.dumps(
            {
                "n": n,
                "id": event.id,
                "invocation_id": event.invocation_id,
                "timestamp": timestamp.isoformat(),
            }
        )
        yield f'{head[:-1]}, "data": {encode_event(event)}}}'


def shown_rows(n: int, landing: Landing) -> Iterator[str]:
    """Return the rows of the job's events that are kept with its turn, as JSON."""
    for row in landing.shown:
        yield json.dumps({"n": n, **row})


def _times(turn: Turn) -> list[datetime]:
    """The times of the added events' rows: each later than the one before it."""
    last, times = turn.last_event_at, []
    for event in turn.added:
        time = _naive(event.timestamp)
        last = time if last is None else max(time, last + _TICK)
        times.append(last)
    return times


def _naive(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC).replace(tzinfo=None)


def array(items: Iterator[str]) -> str:
    """Return a JSON array of JSON texts."""
    return "[" + ", ".join(items) + "]"
