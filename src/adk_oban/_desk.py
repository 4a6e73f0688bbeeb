"""What any process may ask: jobs, what came of them, and what they ask people."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Unpack

from oban import Job
from psycopg import AsyncConnection

from ._approvals import Inbox
from ._arrival import Arrival
from ._filter import LIVE, STOPPED, Filter, Filters
from ._follow import follow
from ._listing import Listing
from ._services import Services
from ._unique import UniqueKey
from .approvals import Approval
from .errors import JobNotFoundError
from .events import JobEvent, position_of
from .jobs import AgentJob
from .pages import JobPage
from .results import AgentResult, find_result
from .status import JobStatus, find_status


class Desk:
    """The part of `AdkOban` that asks, on any node, without a worker."""

    _services: Services | None = None

    async def enqueue(
        self,
        job: Job,
        *,
        unique: UniqueKey | None = None,
        conn: AsyncConnection | Any = None,
    ) -> AgentJob:
        """Insert a job that `AgentWorker.new` or `ScheduledJob.new` made.

        Args:
            job: The job.
            unique: A key, or a key and a period, as `AgentWorker.enqueue` takes it.
            conn: A connection of the caller's, to insert it in its transaction.

        Raises:
            SessionBusyError: Its session is busy, and `when_busy` is `"reject"`.
        """
        services = self._running
        arrived = await Arrival.of(job, unique).enter(services, conn=conn)
        return AgentJob.of(arrived, services)

    async def get_job(self, job_id: int) -> AgentJob | None:
        """Return a job, or None when there is none or it has been pruned."""
        job = await self._running.oban.get_job(job_id)
        return None if job is None else AgentJob.of(job, self._running)

    async def get_result(self, job_id: int) -> AgentResult | None:
        """Return the kept result of a job that completed, also when that was pruned.

        Raises:
            JobFailedError: The job was discarded or cancelled.
        """
        try:
            return await find_result(job_id, self._running)
        except JobNotFoundError:
            return None

    async def get_status(self, job_id: int) -> JobStatus | None:
        """Return where a job stands, also when it was pruned, or None."""
        try:
            return await find_status(job_id, self._running)
        except JobNotFoundError:
            return None

    def events(
        self, job_id: int, *, after: str | None = None, partial: bool = True
    ) -> AsyncGenerator[JobEvent, None]:
        """Follow a job as `AgentJob.events` does, also when it has been pruned.

        Args:
            job_id: The job's id.
            after: The `cursor` of an event: only what came after it (default: all).
            partial: Whether to hear of text that a model is in the middle of (default
                True).
        """
        position = position_of(after, job_id)
        return follow(self._running, job_id, position, partial=partial)

    async def list_jobs(
        self,
        *,
        after: str | None = None,
        limit: int = 50,
        **filters: Unpack[Filters],
    ) -> JobPage:
        """Return jobs of agents, newest first.

        Args:
            after: The cursor of the page, which is the `next` of the one before.
            limit: How many at most, 1 to 1000 (default 50).
            **filters: `state` (one of Oban's, or several), `queue`, `agent`,
                `app_name`, `user_id`, `session_id`, `tag`, and `since` and `until`:
                when it was enqueued, as aware `datetime`s, the second not included.

        Returns:
            The page, to iterate over; its `next` is the cursor of the one that follows.

        Raises:
            TypeError: A filter is unknown, or an argument is of the wrong type.
            ValueError: A value is wrong; the message names it.

        Example:
            >>> for job in await jobs.list_jobs(state="executing", agent="helper"):
            ...     print(job.id, job.attempt)
        """
        services = self._running
        found, following = await self._listing.page(
            Filter.of(**filters), after=after, limit=limit
        )
        return JobPage(tuple(AgentJob.of(job, services) for job in found), following)

    async def cancel_jobs(
        self,
        *,
        reason: str | None = None,
        keep: bool | None = None,
        **filters: Unpack[Filters],
    ) -> int:
        """Cancel all jobs that `list_jobs` finds and that have not ended.

        Args:
            reason: Why, for people.
            keep: Whether what a running one has done so far stays in its session
                (default: as it was enqueued).
            **filters: As of `list_jobs`; one at least.

        Returns:
            How many are cancelled, or are being cancelled.

        Raises:
            TypeError: A filter is unknown, or an argument is of the wrong type.
            ValueError: There is no filter, or a value is wrong.

        Example:
            >>> await jobs.cancel_jobs(user_id="user-1", reason="the user has left")
        """
        cancels = self._running.cancels
        wanted = Filter.of(**filters).among(LIVE, "cancel_jobs")
        done = [
            len(await cancels.cancel(ids, reason=reason, keep=keep))
            async for ids in self._listing.batches(wanted)
        ]
        return sum(done)

    async def retry_jobs(self, **filters: Unpack[Filters]) -> int:
        """Let all jobs that `list_jobs` finds go on that ended without an answer.

        Those that wait for their next attempt have it at once.

        Args:
            **filters: As of `list_jobs`; one at least.

        Returns:
            How many go on.

        Raises:
            TypeError: A filter is unknown or of the wrong type.
            ValueError: There is no filter, or a value is wrong.

        Example:
            >>> await jobs.retry_jobs(state="discarded", agent="helper")
        """
        retries = self._running.retries
        wanted = Filter.of(**filters).among(STOPPED, "retry_jobs")
        done = [
            len(await retries.retry(ids)) async for ids in self._listing.batches(wanted)
        ]
        return sum(done)

    async def approvals(
        self,
        *,
        state: str | None = "open",
        job_id: int | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        app_name: str | None = None,
        agent: str | None = None,
        tool: str | None = None,
        kind: str | None = None,
        after: int = 0,
        limit: int = 50,
    ) -> list[Approval]:
        """Return what agents ask people, the one that waits longest first.

        Args:
            state: `"open"` (default), `"approved"`, `"rejected"`, `"responded"` or
                `"withdrawn"`; None for all of them.
            job_id: Only those of this job.
            user_id: Only those of this user of ADK's.
            session_id: Only those of this session.
            app_name: Only those of this app.
            agent: Only those that this agent asks.
            tool: Only those about this tool.
            kind: Only those of this kind, such as `"confirmation"`.
            after: Only those with a greater `id`, for the next page.
            limit: How many at most, 1 to 1000 (default 50).

        Raises:
            ValueError: There is no such state or kind, or `limit` is out of range.

        Example:
            >>> for approval in await jobs.approvals(user_id="user-1"):
            ...     job = await jobs.get_job(approval.job_id)
            ...     await job.approve(approval.id, by="anna")
        """
        inbox = Inbox(
            state=state,
            job_id=job_id,
            user_id=user_id,
            session_id=session_id,
            app_name=app_name,
            agent=agent,
            tool=tool,
            kind=kind,
            after=after,
            limit=limit,
        )
        return await self._running.approvals.list(inbox)

    async def get_approval(self, approval_id: int) -> Approval | None:
        """Return what was asked under a number, and its answer; None: nothing was."""
        return await self._running.approvals.get(approval_id)

    @property
    def _listing(self) -> Listing:
        return Listing(self._running.pool, self._running.prefix)

    @property
    def _running(self) -> Services:
        if self._services is None:
            raise not_started()
        return self._services


def not_started() -> RuntimeError:
    """Return the error of a call outside of the time that it runs."""
    return RuntimeError("this AdkOban does not run; use it inside 'async with AdkOban'")
