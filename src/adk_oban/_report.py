"""What an attempt tells and leaves: telemetry, and the result of its job."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from typing import Any

from oban import Job
from oban.telemetry import execute as emit

from ._clock import naive_utc, real_now
from ._codec import storable
from ._invocation import Answer
from ._kind import Kind
from ._results import Outcome, Results
from ._tally import Tally
from .jobs import agent_of
from .telemetry import JOB_PAUSE

logger = logging.getLogger(__name__)


class Report:
    """The account of one attempt.

    Args:
        job: The job, as it was fetched.
        kind: What it is: an agent's job or a scheduled one.
        results: Where results are kept.

    Attributes:
        app_name: ADK's app name.
        user_id: ADK's user id.
        session_id: ADK's session id.
        tally: What the attempt was made of.
    """

    def __init__(self, job: Job, kind: Kind, results: Results) -> None:
        self._job = job
        self._kind = kind
        self._results = results
        # A row may hold anything, and is told about all the same.
        self._raw = job.args if isinstance(job.args, dict) else {}
        self.app_name = str(self._raw.get("app_name") or kind.app_name)
        # A row that names no session gets one that all its attempts share.
        own = f"{kind.session}-{job.id}"
        self.session_id = str(self._raw.get("session_id") or own)
        self.user_id = str(self._raw.get("user_id") or kind.user_id or "")
        self.tally = Tally()
        self._attempted_at = naive_utc(job.attempted_at or real_now())
        self._started_at = real_now()
        self._began_at: datetime | None = None
        self._events = 0
        self._clock = time.monotonic()

    @property
    def agent(self) -> str:
        """The agent's name, as the args have it."""
        return agent_of(self._raw)

    def started(self) -> None:
        """Tell that it begins."""
        emit(self._kind.start, {**self._fields(), "system_time": time.time()})

    def resumed(self, parts: dict[str, Any]) -> Tally:
        """Go on with the account of the parts before a pause; return its tally."""
        self.tally = Tally.of(parts)
        self._events = int(parts.get("events", 0))
        began_at = parts.get("began_at")
        self._began_at = datetime.fromisoformat(began_at) if began_at else None
        return self.tally

    def parts(self, answer: Answer) -> dict[str, Any]:
        """Return the account so far, for a job that pauses."""
        return {
            **self.tally.parts(),
            "invocation_id": answer.events[0].invocation_id,
            "events": self._events + len(answer.events),
            "began_at": (self._began_at or self._started_at).isoformat(),
        }

    def outcome(self, answer: Answer) -> Outcome:
        """Return what the job completes with."""
        final = answer.final
        return Outcome(
            **self._head("completed"),
            invocation_id=answer.events[0].invocation_id if answer.events else None,
            text=storable(answer.text),
            output=answer.output,
            session_state=answer.state,
            event_count=self._events + len(answer.events),
            error_code=answer.error_code,
            error=final.error_message if final else None,
        )

    def end(self, state: str, message: str) -> Outcome:
        """Return what a job ends with that has no answer."""
        return Outcome(**self._head(state), error=storable(message))

    def completed(self, answer: Answer) -> None:
        """Tell that the job has completed."""
        done = {
            "duration": self._duration(),
            "event_count": len(answer.events),
            "events": list(answer.events),
            "text": answer.text,
            "error_code": answer.error_code,
            "result": answer.text,
        }
        emit(self._kind.complete, {**self._fields(), **self._cost(), **done})

    def paused(self, questions: int) -> None:
        """Tell that the job waits for people."""
        done = {"duration": self._duration(), "questions": questions}
        emit(JOB_PAUSE, {**self._fields(), **self._cost(), **done})

    def failed(self, error_type: str, message: str) -> None:
        """Tell that the attempt has no answer."""
        failure = {
            "duration": self._duration(),
            "error_type": error_type,
            "error_message": message,
            "result": message,
        }
        emit(self._kind.exception, {**self._fields(), **self._cost(), **failure})

    async def keep(self, state: str, message: str) -> None:
        """Keep why a job ended without an answer."""
        try:
            outcome = self.end(state, message)
            await self._results.save(outcome, attempted_at=self._attempted_at)
        except Exception:
            # What the job ended with stands in its own row too.
            logger.exception("job %s: its end could not be recorded", self._job.id)

    def _head(self, state: str) -> dict[str, Any]:
        return {
            "job_id": self._job.id,
            "state": state,
            "attempt": self._job.attempt,
            "agent": storable(self.agent),
            "app_name": storable(self.app_name),
            "user_id": storable(self.user_id),
            "session_id": storable(self.session_id),
            "began_at": self._began_at,
            "started_at": self._started_at,
            "steps": self.tally.to_json(),
            "model_calls": self.tally.model_calls,
            "usage": dict(self.tally.usage),
        }

    def _fields(self) -> dict[str, Any]:
        return {
            "job_id": self._job.id,
            "args": self._job.args,
            "agent": self.agent,
            "queue": self._job.queue,
            "attempt": self._job.attempt,
            "max_attempts": self._job.max_attempts,
        }

    def _cost(self) -> dict[str, Any]:
        return {
            "model_calls": self.tally.model_calls,
            "usage": dict(self.tally.usage),
            "steps": dict(self.tally.steps),
            "saved": dict(self.tally.saved),
        }

    def _duration(self) -> float:
        return round((time.monotonic() - self._clock) * 1000, 2)
