"""The job that follows on others: fed with their results, enqueued exactly once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from oban import Job
from oban.worker import worker_name
from psycopg import AsyncConnection

from ._args import MAX_MESSAGE_BYTES, new_session_id
from ._clock import naive_utc, real_now
from ._connection import fetch
from ._ends import End, read_ends
from ._kind import AGENT
from ._on_complete import FanIn, Then
from ._query import statement
from ._services import Services
from ._verdict import NotOwner, RefusedError
from .worker import AgentWorker


class NextJob:
    """Enqueues what follows, and completes the job that does so, in one transaction.

    Args:
        job: The job that sees to it.
        after: The id of the job that has ended.
        services: What it runs with.
    """

    def __init__(self, job: Job, after: int, services: Services) -> None:
        self._job = job
        self._after = after
        self._services = services

    async def then(self, then: Then) -> None:
        """Enqueue an agent with the result of the job, which has completed.

        Raises:
            NotOwner: The job that sees to it is somebody else's; nothing was written.
            RefusedError: It can never be enqueued; the reason says why.
        """
        async with self._services.pool.connection() as conn, conn.transaction():
            (end,) = await self._ends(conn, [self._after], "completed")
            if not end.kept:
                raise RefusedError(f"{end.reason}, so {then.agent!r} gets nothing")
            message = _fitting(
                lambda limit: _content(then.message, end.answer(limit)), count=1
            )
            job = self._make(then, end.user_id, message)
            await self._complete(conn, await self._insert(conn, job))

    async def fan_in(self, fan_in: FanIn) -> None:
        """Count the job, and enqueue the agent if it was the last of its batch.

        Raises:
            NotOwner: As `then`.
            RefusedError: As `then`.
        """
        async with (
            self._services.fan_ins.turn(fan_in.key),
            self._services.pool.connection() as conn,
            conn.transaction(),
        ):
            started = None
            if await self._is_last(conn, fan_in):
                started = await self._insert(conn, await self._gathered(conn, fan_in))
                said = {"key": fan_in.key, "then_job_id": started}
                await conn.execute(self._sql("end_fan_in"), said)
            await self._complete(conn, started)

    async def _is_last(self, conn: AsyncConnection[Any], fan_in: FanIn) -> bool:
        """Count the job, and return whether its batch has ended with it."""
        said = {"key": fan_in.key, "size": fan_in.size, "job_id": self._after}
        rows = await fetch(conn, self._sql("count_fan_in"), said)
        ((size, ended, started, is_new),) = rows
        batch = f"the batch {fan_in.key!r}"
        if size != fan_in.size:
            raise RefusedError(
                f"{batch} has {size} jobs, and job {self._after} says {fan_in.size}: "
                "give all its jobs one size, or this one another key"
            )
        if is_new and started is not None:
            raise RefusedError(
                f"{batch} of {size} jobs has started job {started} already, so job "
                f"{self._after} is one too many; give another batch another key"
            )
        return bool(is_new and ended == size)

    async def _gathered(self, conn: AsyncConnection[Any], fan_in: FanIn) -> Job:
        then, said = fan_in.then, {"key": fan_in.key}
        rows = await fetch(conn, self._sql("get_fan_in_jobs"), said)
        ends = await self._ends(conn, [job_id for (job_id,) in rows], None)

        def build(limit: int) -> dict[str, Any]:
            told = [end.to_json(limit) for end in ends]
            return _content(then.message, json.dumps(told, ensure_ascii=False))

        user_id = next((end.user_id for end in ends if end.user_id), None)
        message = _fitting(build, count=len(ends))
        return self._make(then, user_id, message, fan_in=fan_in.key)

    def _make(
        self, then: Then, user_id: str | None, message: dict[str, Any], **meta: Any
    ) -> Job:
        # Its agent may be one that only other workers know: they judge it.
        args = then.args(user_id or "", message)
        args.setdefault("session_id", new_session_id(AGENT.session))
        options = then.options().with_(meta={"after_job": self._after, **meta})
        return Job(worker_name(AgentWorker), args=args, **options.to_oban())

    async def _ends(
        self, conn: AsyncConnection[Any], job_ids: list[int], state: str | None
    ) -> list[End]:
        return await read_ends(conn, self._services.prefix, job_ids, state=state)

    async def _insert(self, conn: AsyncConnection[Any], job: Job) -> int:
        return (await self._services.oban.enqueue(job, conn=conn)).id or 0

    async def _complete(
        self, conn: AsyncConnection[Any], then_job_id: int | None
    ) -> None:
        said = {
            "id": self._job.id,
            "attempted_at": naive_utc(self._job.attempted_at or real_now()),
            "then_job_id": then_job_id,
        }
        if not await fetch(conn, self._sql("complete_follow_up"), said):
            raise NotOwner

    def _sql(self, name: str) -> Any:
        return statement(name, self._services.prefix)


def _content(*texts: str) -> dict[str, Any]:
    parts = [{"text": text} for text in texts if text]
    return {"role": "user", "parts": parts}


def _fitting(build: Callable[[int], dict[str, Any]], *, count: int) -> dict[str, Any]:
    """Return the message with texts as long as the limit of messages allows."""
    limit = MAX_MESSAGE_BYTES
    message = build(limit)
    while len(json.dumps(message, ensure_ascii=False).encode()) > MAX_MESSAGE_BYTES:
        limit = min(limit * 9 // 10, MAX_MESSAGE_BYTES // count)
        message = build(limit)
    return message
