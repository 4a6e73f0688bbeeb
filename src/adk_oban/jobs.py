"""A job of an agent, as `enqueue` returns it and `get_job` finds it, and its result."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from google.adk.events import Event
from oban import Job

from ._payload import pack
from ._results import Outcome, Progress
from ._services import Services
from .errors import JobFailedError, JobNotFoundError, ResultTimeoutError

# The notification of a result can be lost with its connection, so that waiting also
# looks by itself, this often in seconds.
_LOOK_EVERY = 1.0
_ACK_TAKES = 0.01


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
        waiting_for: The calls that wait for an answer from outside, each with `id`,
            `name` and `args`: a long-running tool's, or a confirmation's.
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
    waiting_for: tuple[dict[str, Any], ...]
    duration: timedelta
    app_name: str
    user_id: str
    session_id: str
    invocation_id: str | None
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class UndecidedStep:
    """A tool call marked `@once` of which nobody knows whether it was done.

    Attributes:
        id: Its number, to decide by.
        job_id: The job that waits.
        tool: The tool's name.
        agent: The agent's name.
        attempt: The attempt that began it.
        error: What it raised; None: its process ended.
        began_at: When it began.
    """

    id: int
    job_id: int
    tool: str
    agent: str
    attempt: int
    error: str | None
    began_at: datetime


@dataclass(frozen=True, slots=True)
class AgentJob:
    """A job of an agent, as it was when it was read; `reload` reads it again.

    Attributes:
        id: Oban's id.
        state: Oban's state: `available`, `scheduled`, `executing`, `retryable`,
            `completed`, `discarded` or `cancelled`.
        queue: Oban's queue.
        worker: The worker's name in the row.
        priority: 0 (first) to 9.
        attempt: How many attempts have started.
        max_attempts: How many there may be.
        args: The args as they stand in the row.
        meta: Oban's meta.
        tags: Oban's tags.
        errors: One entry for each failed attempt: `attempt`, `at`, `error`.
        inserted_at: When it was enqueued.
        scheduled_at: When it may run.
        attempted_at: When the last attempt started.
        completed_at: When it completed.
    """

    id: int
    state: str
    queue: str
    worker: str
    priority: int
    attempt: int
    max_attempts: int
    args: dict[str, Any]
    meta: dict[str, Any]
    tags: tuple[str, ...]
    errors: tuple[dict[str, Any], ...]
    inserted_at: datetime | None
    scheduled_at: datetime | None
    attempted_at: datetime | None
    completed_at: datetime | None
    _services: Services = field(repr=False, compare=False)

    @classmethod
    def of(cls, job: Job, services: Services) -> Self:
        """Return Oban's job as one of an agent."""
        if job.id is None:
            raise ValueError(f"{job} has not been enqueued, so it has no id")
        return cls(
            id=job.id,
            state=str(job.state),
            queue=job.queue,
            worker=job.worker,
            priority=job.priority,
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            args=job.args,
            meta=job.meta,
            tags=tuple(job.tags),
            errors=tuple(job.errors),  # type: ignore[arg-type]  # Oban says list[str], rows hold objects
            inserted_at=_aware(job.inserted_at),
            scheduled_at=_aware(job.scheduled_at),
            attempted_at=_aware(job.attempted_at),
            completed_at=_aware(job.completed_at),
            _services=services,
        )

    @property
    def agent(self) -> str:
        """The agent's name as the args have it, or the inline agent's."""
        return agent_of(self.args)

    @property
    def user_id(self) -> str | None:
        """ADK's user id, as the args have it."""
        return self.args.get("user_id")

    @property
    def session_id(self) -> str | None:
        """ADK's session id; None in a row that leaves it to the worker."""
        return self.args.get("session_id")

    async def reload(self) -> AgentJob:
        """Return the job as it is now.

        Raises:
            JobNotFoundError: It has been pruned.
        """
        job = await self._services.oban.get_job(self.id)
        if job is None:
            raise JobNotFoundError(self.id)
        return AgentJob.of(job, self._services)

    async def result(self, *, timeout: float | None = None) -> AgentResult:
        """Wait until the job has ended, and return what with.

        It may be awaited from any process, any number of times, and also after Oban
        has pruned the job, as long as the result is kept (`result_ttl`).

        Args:
            timeout: How many seconds to wait (default None: as long as it takes). The
                job goes on when the time is up. 0 looks once.

        Raises:
            JobFailedError: It was discarded or cancelled.
            JobNotFoundError: Neither the job nor its result is there.
            ResultTimeoutError: It has not ended within `timeout`.

        Example:
            >>> job = await AgentWorker.enqueue("helper", "user-1", "Hello")
            >>> print((await job.result(timeout=60)).text)
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._services.watch.job(self.id) as arrived:
            while not (progress := await self._progress()).ended:
                # The acknowledgement follows the result within milliseconds.
                pause = _ACK_TAKES if progress.ending else _LOOK_EVERY
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    state = str(progress.job_state)
                    raise ResultTimeoutError(self.id, state, timeout or 0)
                await _wait(arrived, pause if left is None else min(pause, left))
        return await self._ended(progress)

    async def undecided(self) -> list[UndecidedStep]:
        """Return the tool calls marked `@once` whose outcome nobody knows.

        A job that has some waits until each of them is decided.
        """
        steps = await self._services.steps.of_job(self.id)
        return [
            UndecidedStep(
                id=step.id or 0,
                job_id=step.job_id,
                tool=step.name,
                agent=step.agent,
                attempt=step.attempt,
                error=step.payload,
                began_at=step.recorded_at,
            )
            for step in steps
            if step.state != "done"
            and not (self.state == "executing" and step.attempt == self.attempt)
        ]

    async def decide(
        self,
        step_id: int,
        *,
        again: bool = False,
        result: Any = None,
        fail: str | None = None,
    ) -> None:
        """Say what happened to a tool call whose outcome nobody knows; the job goes on.

        Args:
            step_id: Which one; see `undecided`.
            again: It did not happen: run it again.
            result: It happened, and this is what it returned. As JSON; `{}` if nothing.
            fail: Give the job up, for this reason: it is cancelled.

        Raises:
            LookupError: The job has no such call, or somebody has decided.
            TypeError: `result` is not JSON.
            ValueError: Not exactly one of the three is given.

        Example:
            >>> for step in await job.undecided():
            ...     await job.decide(step.id, result={"sent": True})
        """
        if sum([again, result is not None, fail is not None]) != 1:
            raise ValueError(
                "say one of again=True, result=... and fail=..., got "
                f"again={again!r}, result={result!r}, fail={fail!r}"
            )
        decided = {"result": result} if fail is None else {"refused": fail}
        found = await self._services.steps.decide(
            self.id, step_id, payload=None if again else pack(decided)
        )
        if not found:
            raise LookupError(
                f"job {self.id} has no undecided step {step_id!r}; somebody may have "
                "decided already, and undecided() lists those there are"
            )

    async def _progress(self) -> Progress:
        progress = await self._services.results.progress(self.id)
        if progress.job_state is None and progress.result_state is None:
            raise JobNotFoundError(self.id)
        return progress

    async def _ended(self, progress: Progress) -> AgentResult:
        state = progress.job_state or progress.result_state or ""
        if state != "completed":
            reason = progress.result_error or progress.job_error or "no reason recorded"
            raise JobFailedError(self.id, state, reason)
        return await find_result(self.id, self._services)


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


def agent_of(args: dict[str, Any]) -> str:
    """Return the agent's name as args have it, or the inline agent's."""
    config = args.get("agent_config") or {}
    name = args.get("agent_module") or args.get("agent_name") or config.get("name")
    return str(name or "oban_agent")


def _aware(time: datetime | None) -> datetime | None:
    # What Oban fills in when it inserts a job has no zone, and means UTC.
    naive = time is not None and time.tzinfo is None
    return time.replace(tzinfo=UTC) if time is not None and naive else time


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
        waiting_for=tuple(outcome.waiting_for),
        duration=finished - outcome.started_at,
        app_name=outcome.app_name,
        user_id=outcome.user_id,
        session_id=outcome.session_id,
        invocation_id=outcome.invocation_id,
        error_code=outcome.error_code,
        error_message=outcome.error,
    )


async def _wait(arrived: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await arrived.wait()
    except TimeoutError:
        return
    arrived.clear()
