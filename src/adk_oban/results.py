"""What an agent's job ended with, kept longer than the job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.adk.events import Event

from ._results import Outcome
from ._services import Services
from .errors import JobFailedError, JobNotFoundError


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What an agent's job ended with.

    Attributes:
        job_id: The job's id.
        text: The final answer; empty when the model gave none.
        output: The structured output where the agent has an output schema, or a
            Workflow's output; else None.
        events: The turn's ADK events, without the user's message; none when the
            session has been deleted since.
        event_count: How many events there were.
        state: The ADK session's state after the turn, with `user:` and `app:` keys.
        attempts: How many attempts it took.
        model_calls: How many model calls the turn took, each counted once, however many
            attempts there were.
        usage: Sums of their token counts, under genai's names
            (`prompt_token_count`, `candidates_token_count`, `total_token_count`, …).
        steps: How many steps of the last attempt were `live`, `replayed`, or `changed`
            (live since their request is not what was recorded), and how many model
            calls were live (`live_model_calls`).
        saved: Sums of the token counts that the last attempt did not pay again.
        duration: How long the last attempt took.
        app_name: ADK's app name.
        user_id: ADK's user id.
        session_id: ADK's session id.
        invocation_id: ADK's id of the invocation.
        error_code: The model's error code when it ended without a proper answer, such
            as `"SAFETY"` or `"MAX_TOKENS"`; else None.
        error_message: What the model said of it.
    """

    job_id: int
    text: str
    output: Any
    events: tuple[Event, ...]
    event_count: int
    state: dict[str, Any]
    attempts: int
    model_calls: int
    usage: dict[str, int]
    steps: dict[str, int]
    saved: dict[str, int]
    duration: timedelta
    app_name: str
    user_id: str
    session_id: str
    invocation_id: str | None
    error_code: str | None
    error_message: str | None


async def find_result(job_id: int, services: Services) -> AgentResult:
    """Return the kept result of a job that completed.

    Raises:
        JobFailedError: The job was discarded or cancelled.
        JobNotFoundError: There is no result, or no longer.
    """
    outcome = await services.results.get(job_id)
    if outcome is None:
        raise JobNotFoundError(job_id)
    if outcome.state != "completed":
        raise JobFailedError(job_id, outcome.state, outcome.error or "")
    return _result(outcome, await services.results.events(outcome))


def _result(outcome: Outcome, events: list[Event]) -> AgentResult:
    finished = outcome.finished_at or outcome.started_at
    steps = dict(outcome.steps)
    saved = steps.pop("saved", {})
    return AgentResult(
        job_id=outcome.job_id,
        text=outcome.text,
        output=outcome.output,
        events=tuple(events),
        event_count=outcome.event_count,
        state=outcome.session_state,
        attempts=outcome.attempt,
        model_calls=outcome.model_calls,
        usage=outcome.usage,
        steps=steps,
        saved=saved,
        duration=finished - outcome.started_at,
        app_name=outcome.app_name,
        user_id=outcome.user_id,
        session_id=outcome.session_id,
        invocation_id=outcome.invocation_id,
        error_code=outcome.error_code,
        error_message=outcome.error,
    )
