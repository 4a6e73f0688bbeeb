"""A job of an agent, as `enqueue` returns it and `get_job` finds it, and its result."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, Unpack

from oban import Job

from . import _replies
from ._approvals import Inbox
from ._args import Message
from ._follow import follow
from ._fork import Fork, Source
from ._kind import AGENT, SCHEDULED
from ._options import JobOptions, Options
from ._payload import pack
from ._replies import Reply
from ._results import Progress
from ._services import Services
from .approvals import Approval
from .errors import (
    AlreadyAnsweredError,
    JobFailedError,
    JobNotFoundError,
    ResultTimeoutError,
)
from .events import JobEvent, position_of
from .results import AgentResult, find_result
from .status import JobStatus, JobStep, find_status, find_steps


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

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data that JSON can hold."""
        names = [name for name in self.__slots__ if not name.startswith("_")]
        row = {name: getattr(self, name) for name in names}
        times = {k: v.isoformat() for k, v in row.items() if isinstance(v, datetime)}
        lists = {"tags": list(self.tags), "errors": list(self.errors)}
        told = {"agent": self.agent, "message": self.args.get("message")}
        return {**row, **times, **lists, **told}

    async def status(self) -> JobStatus:
        """Return where the job stands now, also when it has been pruned.

        Raises:
            JobNotFoundError: Neither the job nor its result is there.

        Example:
            >>> status = await job.status()
            >>> print(status.state, status.node, status.steps_done)
        """
        return await find_status(self.id, self._services)

    async def steps(self) -> list[JobStep]:
        """Return what the job's agents have done, in the order of its recording.

        Steps are kept for `step_ttl` after the job has ended.

        Raises:
            JobNotFoundError: Nothing of the job is there any more.

        Example:
            >>> for step in await job.steps():
            ...     print(step.position, step.kind, step.name, step.source)
        """
        return await find_steps(self.id, self._services)

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
        async with self._services.watch.job(self.id) as watcher:
            while not (progress := await self._progress()).ended:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    state = str(progress.job_state)
                    raise ResultTimeoutError(self.id, state, timeout or 0)
                await watcher.wait(left)
        return await self._ended(progress)

    def events(
        self, *, after: str | None = None, partial: bool = True
    ) -> AsyncGenerator[JobEvent, None]:
        """Follow the job: what has happened in it, and what happens, until it ends.

        From any process; each event comes once and in order, whatever the number of
        attempts. It may be gone on with later, elsewhere, after the last event's
        cursor. While nothing happens, nothing is asked.

        Args:
            after: The `cursor` of an event: only what came after it (default: all).
            partial: Whether to hear of text that a model is in the middle of; a job has
                some that was enqueued with `streaming=True` (default True).

        Returns:
            The events. The last one is how the job ended; one that is retried after
            that goes on for those who ask again.

        Raises:
            JobNotFoundError: From the first step: there is nothing of the job any more.
            RuntimeError: From a later step: the `AdkOban` has stopped.
            TypeError: `after` is not text.
            ValueError: `after` is no cursor of this job's; or, from the first step, of
                an event that it has not come to.

        Example:
            >>> async for event in job.events():
            ...     print(event.cursor, event.type, event.text)
        """
        position = position_of(after, self.id)
        return follow(self._services, self.id, position, partial=partial)

    async def cancel(
        self, *, reason: str | None = None, keep: bool | None = None
    ) -> AgentJob:
        """Cancel the job: one that runs is stopped at once, on whatever node.

        Its model call or tool is aborted, the agent's `finally` blocks run, and it ends
        as `cancelled`, also when its process dies meanwhile.

        Args:
            reason: Why, for people: it stands in the job's `errors`.
            keep: Whether what it has done so far stays in its session (default: as its
                own `on_cancel` says).

        Returns:
            The job as it is now: `cancelled`, or `executing` until it has stopped.

        Raises:
            JobNotFoundError: It has been pruned.
            ValueError: It has ended.

        Example:
            >>> await job.cancel(reason="the customer has hung up", keep=True)
        """
        cancelled = await self._services.cancels.cancel(
            [self.id], reason=reason, keep=keep
        )
        job = await self.reload()
        if not cancelled:
            raise ValueError(
                f"job {self.id} is {job.state} already; only one that has not ended "
                "can be cancelled"
            )
        return job

    async def retry(self) -> AgentJob:
        """Let a job go on at once that was discarded or cancelled, or waits to.

        Nothing that it recorded is done again, and it gets one more attempt if it has
        used up all. One that was cancelled while it waited for people asks them again.

        Returns:
            The job as it is now.

        Raises:
            JobNotFoundError: It has been pruned.
            ValueError: It has not ended, or has completed.

        Example:
            >>> job = await (await jobs.get_job(17)).retry()
            >>> print((await job.result(timeout=60)).text)
        """
        retried = await self._services.retries.retry([self.id])
        job = await self.reload()
        if not retried:
            raise ValueError(f"job {self.id} cannot be retried: {_standing(job)}")
        return job

    async def fork(
        self,
        *,
        after_step: int | None = None,
        message: Message | None = None,
        session_id: str | None = None,
        **options: Unpack[Options],
    ) -> AgentJob:
        """Enqueue a new job on a copy of the session, as of a step of this one.

        Without a message it is asked the same again: its first steps are answered as
        they were, and cost nothing; what comes after them runs live. With a message
        that is what follows on what this job had said and done by then, or in its
        place with `after_step=0`. This job and its session stay as they are; `user:`
        and `app:` state and artifacts are not copied.

        Args:
            after_step: The number of the last step that counts, as `steps()` has them;
                0: none (default: all of them).
            message: What the agent is told in the copy.
            session_id: ADK's id of the copy (default: `"fork-"` and 11 random
                characters).
            **options: As of `AgentWorker.enqueue` (default: those of this job).

        Returns:
            The new job; its `meta` says `forked_from` and `after_step`.

        Raises:
            TypeError: A value is of the wrong type.
            ValueError: There is no such step or it has been pruned, the session of the
                copy is there already, or a value is wrong.

        Example:
            >>> again = await job.fork(after_step=2)
            >>> other = await job.fork(message="Now in French, please")
        """
        try:
            job = await self.reload()
        except JobNotFoundError:
            job = self  # pruned; its steps and its session may be there
        fork = Fork.of(
            _source(job),
            after_step=after_step,
            message=message,
            session_id=session_id,
            options={**options},
        )
        return AgentJob.of(await fork.make(self._services), self._services)

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

    async def approve(
        self,
        approval_id: int,
        *,
        payload: Any = None,
        edited_args: dict[str, Any] | None = None,
        by: str | None = None,
    ) -> Approval:
        """Let a tool run that its agent asked about; the job goes on.

        Args:
            approval_id: Which question; see `AdkOban.approvals`.
            payload: What the tool finds in its context's `tool_confirmation.payload`,
                as JSON.
            edited_args: What the tool runs with instead of what the model wanted.
            by: Who says so, for the record.

        Returns:
            The approval, answered.

        Raises:
            AlreadyAnsweredError: Somebody was faster, or the deadline has passed.
            LookupError: The job has not asked this.
            TypeError: A value is not JSON of the right shape.
            ValueError: The question takes no such answer.

        Example:
            >>> (asked,) = await jobs.approvals(job_id=job.id)
            >>> await job.approve(asked.id, edited_args={"amount": 10}, by="anna")
        """
        asked = await self._asked(approval_id)
        reply = _replies.approve(asked, payload=payload, edited_args=edited_args, by=by)
        return await self._services.approvals.answer(asked, reply)

    async def reject(
        self, approval_id: int, reason: str | None = None, *, by: str | None = None
    ) -> Approval:
        """Do not let a tool run, or refuse what its agent asks for; the job goes on.

        Args:
            approval_id: Which question; see `AdkOban.approvals`.
            reason: Why, for the agent to read.
            by: Who says so, for the record.

        Returns:
            The approval, answered. A job whose `decision` is rejected is cancelled.

        Raises:
            AlreadyAnsweredError: Somebody was faster, or the deadline has passed.
            LookupError: The job has not asked this.
            ValueError: The question takes no such answer.

        Example:
            >>> await job.reject(asked.id, "too expensive", by="anna")
        """
        asked = await self._asked(approval_id)
        reply = _replies.reject(asked, reason=reason, by=by)
        return await self._services.approvals.answer(asked, reply)

    async def respond(
        self, approval_id: int, response: Any, *, by: str | None = None
    ) -> Approval:
        """Give an agent what it asks for; the job goes on.

        Args:
            approval_id: Which question; see `AdkOban.approvals`.
            response: What came of a long-running tool, what a node wants to know, a
                credential, or what a tool that runs once returned. As JSON.
            by: Who says so, for the record.

        Returns:
            The approval, answered.

        Raises:
            AlreadyAnsweredError: Somebody was faster, or the deadline has passed.
            LookupError: The job has not asked this.
            TypeError: `response` is not JSON of the right shape.
            ValueError: The question takes no such answer.

        Example:
            >>> await job.respond(asked.id, {"ticket": "T-1", "status": "granted"})
        """
        asked = await self._asked(approval_id)
        reply = _replies.respond(asked, response, by=by)
        return await self._services.approvals.answer(asked, reply)

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
        payload = None if again else pack(decided)
        inbox = Inbox(job_id=self.id, kind="decision", limit=1000)
        asked = await self._services.approvals.list(inbox)
        mine = [each for each in asked if each.payload["step_id"] == step_id]
        try:
            if mine:
                reply = _decision(again, result, fail)
                await self._services.approvals.answer(mine[0], reply)
                return
            found = await self._services.steps.decide(self.id, step_id, payload=payload)
        except AlreadyAnsweredError:
            found = False
        if not found:
            raise LookupError(
                f"job {self.id} has no undecided step {step_id!r}; somebody may have "
                "decided already, and undecided() lists those there are"
            )

    async def _asked(self, approval_id: int) -> Approval:
        if not isinstance(approval_id, int) or isinstance(approval_id, bool):
            raise TypeError(f"an approval is named by its id, got {approval_id!r}")
        known = 0 < approval_id < 2**63
        asked = await self._services.approvals.get(approval_id) if known else None
        if asked is None or asked.job_id != self.id:
            raise LookupError(
                f"job {self.id} has no approval {approval_id!r}; approvals(job_id=...) "
                "lists those there are"
            )
        return asked

    async def _progress(self) -> Progress:
        progress = await self._services.results.progress(self.id)
        if progress.job_state is None and progress.result_state is None:
            raise JobNotFoundError(self.id)
        return progress

    async def _ended(self, progress: Progress) -> AgentResult:
        state = progress.job_state or progress.result_state or ""
        if state != "completed":
            reasons = [progress.result_error, progress.job_error]
            if state == "cancelled":  # maybe after it had ended before
                reasons.reverse()
            reason = reasons[0] or reasons[1] or "no reason recorded"
            raise JobFailedError(self.id, state, reason)
        return await find_result(self.id, self._services)


def _standing(job: AgentJob) -> str:
    match job.state:
        case "completed":
            return "it has completed; fork() runs it again on a copy of its session"
        case "executing":
            return "it runs"
        case "available":
            return "it is about to run"
    match job.meta.get("adk_oban_waits"):
        case "approval" | "decision":
            return "it waits for an answer; see approvals()"
        case "order":
            return "it waits for an earlier job of its session"
    return f"it is {job.state}, and runs at {job.scheduled_at}"


def _source(job: AgentJob) -> Source:
    return Source(
        id=job.id,
        kind=SCHEDULED if job.worker.endswith(".ScheduledJob") else AGENT,
        worker=job.worker,
        args=job.args,
        options=JobOptions(
            queue=job.queue,
            max_attempts=job.max_attempts,
            priority=job.priority,
            tags=job.tags,
        ),
        inserted_at=job.inserted_at or datetime.fromtimestamp(0, UTC),
        # One that waits for its turn has looked whether it is due.
        attempted_at=job.attempted_at if job.attempt else None,
    )


def agent_of(args: dict[str, Any]) -> str:
    """Return the agent's name as args have it, or the inline agent's."""
    config = args.get("agent_config") or {}
    name = args.get("agent_module") or args.get("agent_name") or config.get("name")
    return str(name or "oban_agent")


def _decision(again: bool, result: Any, fail: str | None) -> Reply:
    if again:
        return Reply("approved")
    if fail is not None:
        return Reply("rejected", reason=fail)
    return Reply("responded", response=result)


def _aware(time: datetime | None) -> datetime | None:
    # What Oban fills in when it inserts a job has no zone, and means UTC.
    naive = time is not None and time.tzinfo is None
    return time.replace(tzinfo=UTC) if time is not None and naive else time
