"""One attempt of one job: its args, its agent, what it tells and what it leaves."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

from oban import Cancel, Job
from oban.telemetry import execute as emit

from . import _oban
from ._args import AgentArgs
from ._codec import storable
from ._invocation import Answer, Invocation
from ._kind import Kind
from ._meter import Meter
from ._results import Outcome
from ._retry_after import retry_after
from ._services import Services
from .agents import AgentRegistry, FoundAgent
from .errors import UnknownAgentError
from .jobs import agent_of

logger = logging.getLogger(__name__)

RETRY_AFTER = "adk_oban_retry_after"
"""In a job's `extra`: the seconds that a model's service asked to wait."""


class Refused(Exception):
    """The job can never run as it is; another attempt would be in vain."""


class Attempt:
    """One attempt of one job.

    Args:
        job: The job, as it was fetched.
        kind: What it is: an agent's job or a scheduled one.
        services: What it runs with.
    """

    def __init__(self, job: Job, kind: Kind, services: Services) -> None:
        self._job = job
        self._kind = kind
        self._services = services
        self._meter = Meter()
        # A row may hold anything, and is told about all the same.
        self._raw = job.args if isinstance(job.args, dict) else {}
        self._app_name = str(self._raw.get("app_name") or kind.app_name)
        # A row that names no session gets one that all its attempts share.
        own = f"{kind.session}-{job.id}"
        self._session_id = str(self._raw.get("session_id") or own)
        self._user_id = str(self._raw.get("user_id") or kind.user_id or "")
        self._started_at = datetime.now(UTC)
        self._clock = time.monotonic()

    async def run(self) -> Cancel | None:
        """Run it: returns when the job completed, or with why it is not to be retried.

        Raises:
            Exception: Whatever the agent raised; Oban retries or discards the job.
        """
        emit(self._kind.start, {**self._fields(), "system_time": time.time()})
        try:
            args = self._args()
            found = await self._agent(args)
            answer = await self._answer(args, found)
        except Refused as refused:
            return await self._cancelled(str(refused))
        except Exception as error:
            await self._failed(error)
            raise
        abort = _oban.cancellation_of(self._job)
        if abort is not None and abort.is_set():
            return await self._cancelled("cancelled while it ran")
        await self._completed(answer)
        return None

    def _args(self) -> AgentArgs:
        try:
            return self._kind.parse(self._job.args)
        except (TypeError, ValueError) as error:
            raise Refused(str(error)) from error

    async def _agent(self, args: AgentArgs) -> FoundAgent:
        registry = self._services.agents or AgentRegistry([])
        if args.agent_module is not None:
            try:
                return await registry.find(args.agent_module)
            except UnknownAgentError as error:
                raise Refused(str(error)) from error
        try:
            return registry.build(args.agent_config or {})
        except ValueError as error:
            raise Refused(str(error)) from error

    async def _answer(self, args: AgentArgs, found: FoundAgent) -> Answer:
        if args.app_name is None and self._services.agents is not None:
            name = self._services.agents.app_name_of(args.agent_module, found.agent)
            self._app_name = name or self._app_name
        invocation = Invocation(
            agent=found.agent,
            app_name=self._app_name,
            user_id=self._user_id,
            session_id=self._session_id,
            message=args.content(),
            run_config=args.run_config(),
        )
        abort = _oban.cancellation_of(self._job)
        try:
            return await invocation.run(self._services, self._meter, abort)
        finally:
            if found.fresh:
                await invocation.runner(self._services, Meter()).close()

    async def _completed(self, answer: Answer) -> None:
        final = answer.final
        outcome = Outcome(
            **self._outcome("completed"),
            invocation_id=answer.events[0].invocation_id if answer.events else None,
            text=storable(answer.text),
            output=answer.output,
            session_state=answer.state,
            event_count=len(answer.events),
            error_code=answer.error_code,
            error=final.error_message if final else None,
        )
        await self._services.results.save(outcome)
        done = {
            "duration": self._duration(),
            "event_count": len(answer.events),
            "events": list(answer.events),
            "text": answer.text,
            "error_code": outcome.error_code,
            "result": answer.text,
        }
        emit(self._kind.complete, {**self._fields(), **self._cost(), **done})

    async def _failed(self, error: Exception) -> None:
        message = f"{type(error).__name__}: {error}"
        self._emit_failure(type(error).__name__, str(error))
        self._job.extra[RETRY_AFTER] = retry_after(error)
        if self._job.attempt >= self._job.max_attempts:
            await self._keep("discarded", message)

    async def _cancelled(self, reason: str) -> Cancel:
        self._emit_failure("Cancelled", reason)
        await self._keep("cancelled", reason)
        return Cancel(storable(reason))

    async def _keep(self, state: str, message: str) -> None:
        outcome = Outcome(**self._outcome(state), error=storable(message))
        try:
            await self._services.results.save(outcome)
        except Exception:
            # What the job ended with stands in its own row too.
            logger.exception("job %s: its end could not be recorded", self._job.id)

    def _outcome(self, state: str) -> dict[str, Any]:
        return {
            "job_id": self._job.id,
            "state": state,
            "attempt": self._job.attempt,
            "agent": storable(agent_of(self._raw)),
            "app_name": storable(self._app_name),
            "user_id": storable(self._user_id),
            "session_id": storable(self._session_id),
            "started_at": self._started_at,
            **self._cost(),
        }

    def _emit_failure(self, error_type: str, message: str) -> None:
        failure = {
            "duration": self._duration(),
            "error_type": error_type,
            "error_message": message,
            "result": message,
        }
        emit(self._kind.exception, {**self._fields(), **self._cost(), **failure})

    def _fields(self) -> dict[str, Any]:
        return {
            "job_id": self._job.id,
            "args": self._job.args,
            "agent": agent_of(self._raw),
            "queue": self._job.queue,
            "attempt": self._job.attempt,
            "max_attempts": self._job.max_attempts,
        }

    def _cost(self) -> dict[str, Any]:
        return {
            "model_calls": self._meter.model_calls,
            "usage": dict(self._meter.usage),
        }

    def _duration(self) -> float:
        return round((time.monotonic() - self._clock) * 1000, 2)
