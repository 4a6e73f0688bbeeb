"""The approvals inbox: what agents ask people, and what these answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

STATES = ("open", "approved", "rejected", "responded", "withdrawn")
"""What can have become of a question."""

KINDS = ("confirmation", "long_running", "input", "credential", "decision")
"""What can be asked."""

_TIMES = ("asked_at", "deadline", "answered_at")


@dataclass(frozen=True, slots=True)
class Approval:
    """A question of an agent's, and its answer.

    Attributes:
        id: Its number in the inbox.
        job_id: The job that waits for it.
        kind: `"confirmation"`: whether a tool may run; `"long_running"`: what came of a
            tool that takes its time; `"input"`: what a Workflow's node wants to know;
            `"credential"`: what a tool needs to sign in; `"decision"`: what happened to
            a tool that runs once.
        state: `"open"`, `"approved"`, `"rejected"`, `"responded"`, or `"withdrawn"`:
            its job ended without an answer.
        agent: The agent that asks.
        tool: The tool that it is about; the node that asks for input.
        args: What the tool was called with.
        hint: What the agent says about it.
        payload: What ADK's own call holds, as it is.
        app_name: ADK's app name.
        user_id: ADK's user id.
        session_id: ADK's session id.
        asked_at: Since when it stands there.
        deadline: Until when it can be answered; None: it waits as long as it takes.
        on_deadline: What then: `"reject"`, `"approve"` or `"cancel"` the job.
        answered_at: When it was answered.
        answered_by: Who answered; `"deadline"` where nobody did in time.
        response: What ADK is told.
        edited_args: What the tool runs with instead of `args`.
        reason: Why it was rejected.
        segment: Which part of the invocation asked, between pauses.
        call_id: ADK's id of the call that waits, or the key of the tool's step.
        call_name: Under which name ADK knows that call.
        replayed: Whether the agent asks again from the journal, and not by ADK's means.
    """

    id: int
    job_id: int
    kind: str
    state: str
    agent: str
    tool: str
    args: dict[str, Any]
    hint: str
    payload: Any
    app_name: str
    user_id: str
    session_id: str
    asked_at: datetime
    deadline: datetime | None
    on_deadline: str
    answered_at: datetime | None
    answered_by: str | None
    response: Any
    edited_args: dict[str, Any] | None
    reason: str | None
    segment: int
    call_id: str
    call_name: str
    replayed: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON: times in ISO 8601, all else as it is."""
        times = {name: getattr(self, name) for name in _TIMES}
        iso = {name: time and time.isoformat() for name, time in times.items()}
        return {**{name: getattr(self, name) for name in self.__slots__}, **iso}

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """Return the approval of a row that came as JSON."""
        times = {name: row[name] for name in _TIMES}
        read = {n: t and datetime.fromisoformat(t) for n, t in times.items()}
        return cls(**{**{name: row[name] for name in cls.__slots__}, **read})
