"""What happens in a job, as those who follow it see it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ._codec import decode

OUTCOMES = ("completed", "discarded", "cancelled")
"""The types of the event that a job ends with."""

_CURSOR = re.compile(r"([1-9][0-9]{0,18})-([0-9]{1,19})")
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened in a job.

    Attributes:
        job_id: The job's id.
        type: `"event"`: the agent said or did something; `"partial"`: a model is
            answering, and this is some of its text; `"failed"`: an attempt failed, and
            another one follows; `"rescued"`: the process that ran it died, and another
            one goes on; `"paused"`: it waits for people; `"answered"`: somebody
            answered; `"retried"`: it runs again after its end; and as its end
            `"completed"`, `"discarded"` or `"cancelled"`.
        attempt: The attempt in which it happened.
        at: When.
        cursor: What to ask for the events after this one with; None of a partial one,
            which is not kept.
        agent: The agent that did it; None of what is not an agent's.
        text: What the agent said, without its thoughts; the answer of a job that
            completed; the error where something failed.
        tool_calls: The tools that are called: `id`, `name`, `args` of each.
        tool_results: What tools returned: `id`, `name`, `result` of each.
        data: All there is: of `"event"` the ADK event as JSON, of `"partial"` the
            `offset` of the text in its answer.

    Example:
        >>> async for event in job.events():
        ...     print(event.type, event.agent, event.text)
    """

    job_id: int
    type: str
    attempt: int
    at: datetime
    cursor: str | None
    agent: str | None = None
    text: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_results: tuple[dict[str, Any], ...] = ()
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_outcome(self) -> bool:
        """Whether the job ended with it."""
        return self.type in OUTCOMES

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data that JSON can hold."""
        return {
            "job_id": self.job_id,
            "type": self.type,
            "attempt": self.attempt,
            "at": self.at.isoformat(),
            "cursor": self.cursor,
            "agent": self.agent,
            "text": self.text,
            "tool_calls": list(self.tool_calls),
            "tool_results": list(self.tool_results),
            "data": self.data,
        }


def cursor_of(job_id: int, id: int) -> str:
    """Return the cursor of an event's number."""
    return f"{job_id}-{id}"


def position_of(cursor: str | None, job_id: int) -> int:
    """Return the number of the event that a cursor stands for; 0 without one.

    Raises:
        TypeError: It is not text.
        ValueError: It is no cursor, or another job's.
    """
    if cursor is None:
        return 0
    if not isinstance(cursor, str):
        raise TypeError(f"after must be the cursor of an event, got {cursor!r}")
    found = _CURSOR.fullmatch(cursor)
    if found is None or int(found[2]) > _LARGEST:
        raise ValueError(
            f"after must be the cursor of an event of this job, such as '{job_id}-42', "
            f"got {cursor!r}"
        )
    if int(found[1]) != job_id:
        raise ValueError(
            f"after must be the cursor of an event of job {job_id}, got {cursor!r}, "
            f"which is job {found[1]}'s"
        )
    return int(found[2])


def event_of(
    job_id: int, id: int, type: str, attempt: int, data: str, at: datetime
) -> JobEvent:
    """Return the event of a row of `adk_oban_events`."""
    told: dict[str, Any] = decode(data)
    cursor = cursor_of(job_id, id)
    if type != "event":
        text = told.get("text") or told.get("error") or ""
        agent = told.get("agent")
        return JobEvent(job_id, type, attempt, at, cursor, agent, text, data=told)
    parts = (told.get("content") or {}).get("parts") or []
    calls = [part["function_call"] for part in parts if part.get("function_call")]
    results = [p["function_response"] for p in parts if p.get("function_response")]
    return JobEvent(
        job_id,
        type,
        attempt,
        at,
        cursor,
        agent=told.get("author"),
        text="".join(p.get("text") or "" for p in parts if not p.get("thought")),
        tool_calls=tuple(_call(call) for call in calls),
        tool_results=tuple(_result(result) for result in results),
        data=told,
    )


def _call(call: dict[str, Any]) -> dict[str, Any]:
    named = {"id": call.get("id"), "name": call.get("name")}
    return {**named, "args": call.get("args") or {}}


def _result(response: dict[str, Any]) -> dict[str, Any]:
    named = {"id": response.get("id"), "name": response.get("name")}
    return {**named, "result": response.get("response")}
