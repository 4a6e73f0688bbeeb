"""What an Oban runs right now: part of the seam, `_oban.py`.

A producer fetches the jobs of one queue, and runs them. Those of queues that have been
stopped are remembered, since their jobs may have outlived them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from typing import Any

from oban import Job, Oban
from oban._executor import AckAction
from oban._producer import Producer
from oban._query import Query
from psycopg.rows import class_row

from ._clock import naive_utc
from ._connection import autocommit

EXTRA = "adk_oban"
"""In a job's `extra`: the services that it runs with."""

_SEEN = "_adk_oban_producers"
_FETCHED = "_adk_oban_fetched"


async def get_jobs(producer: Producer, services: Any) -> list[Job]:
    """Fetch jobs, and give them what they run with; none unless liveness allows it.

    Relies on the extension `producer.get_jobs`. A worker is built without arguments,
    so what it needs travels with the job.
    """
    if services is not None:
        seen: dict[str, Producer] = services.oban.__dict__.setdefault(_SEEN, {})
        seen[producer._uuid] = producer
        if services.liveness and not services.liveness.allows(producer._uuid):
            return []
    jobs = await _fetch(producer)
    for job in jobs:
        job.extra[EXTRA] = services
    _remember(producer, jobs)
    return jobs


async def _fetch(producer: Producer) -> list[Job]:
    """Fetch jobs as Oban does, in one round trip instead of three.

    Relies on `Query._load_file` and `fetch_jobs.sql`.
    """
    demand = producer._limit - len(producer._running_jobs)
    if demand <= 0:
        return []
    query = producer._query
    asked = {
        "queue": producer._queue,
        "demand": demand,
        "attempted_by": [producer._node, producer._uuid],
    }
    sql = Query._load_file("fetch_jobs.sql", query._prefix)
    async with autocommit(query._pool) as conn:
        async with conn.cursor(row_factory=class_row(Job)) as cursor:
            await cursor.execute(sql, asked)
            return await cursor.fetchall()


def _remember(producer: Producer, jobs: list[Job]) -> None:
    fetched: dict[int | None, Job] = producer.__dict__.setdefault(_FETCHED, {})
    if len(fetched) > 2 * producer._limit:
        running = [job for job, _task in producer._running_jobs.values()]
        fetched = producer.__dict__[_FETCHED] = {job.id: job for job in running}
    fetched.update({job.id: job for job in jobs})


def uuids_of(oban: Oban) -> list[str]:
    """Return the uuids of an Oban's producers. Relies on `Producer._uuid`."""
    return [producer._uuid for producer in _producers(oban)]


def node_of(oban: Oban) -> str:
    """Return the name of an Oban's node. Relies on `Oban._node`."""
    node: str = oban._node
    return node


def grace_of(oban: Oban) -> float | None:
    """Return how long running jobs may go on. Relies on `_shutdown_grace_period`."""
    grace: float | None = oban._shutdown_grace_period
    return grace


def known(oban: Oban) -> set[int]:
    """Return the jobs that run here, or have ended and are not acknowledged."""
    jobs = {job.id for job in running(oban).values()}
    return {*(job_id for job_id in jobs if job_id is not None), *unacknowledged(oban)}


def end_grace(oban: Oban) -> None:
    """Let running jobs not go on. Relies on `Producer._shutdown_grace_period`."""
    for producer in _producers(oban):
        producer._shutdown_grace_period = 0


def running(
    oban: Oban, *, workers: Container[str] | None = None
) -> dict[asyncio.Task[Any], Job]:
    """Return the tasks of an Oban's jobs, of these workers only if they are named.

    Relies on `Producer._running_jobs`.
    """
    return {
        task: job
        for producer in _producers(oban)
        for job, task in list(producer._running_jobs.values())
        if workers is None or job.worker in workers
    }


def unacknowledged(oban: Oban) -> list[int]:
    """Return the jobs that have ended and are not acknowledged yet.

    Relies on `Producer._pending_acks`.
    """
    return [ack.id for p in _producers(oban) for ack in list(p._pending_acks)]


async def acknowledge(oban: Oban) -> None:
    """Acknowledge what has ended, for producers that have stopped.

    Relies on `Producer._ack_jobs`, which must not run twice at once.
    """
    for producer in _producers(oban):
        await producer._ack_jobs()  # type: ignore[no-untyped-call]  # Oban's


async def stopped(oban: Oban) -> list[str]:
    """Return the uuids of queues that were stopped and run nothing more.

    What has ended in them is acknowledged. Relies on `Oban._producers`,
    `Producer._loop_task` and `Producer._stopping`.
    """
    gone = [
        producer
        for producer in oban.__dict__.get(_SEEN, {}).values()
        if oban._producers.get(producer._queue) is not producer
        and producer._stopping.is_set()
        and producer._loop_task.done()
        and not producer._running_jobs
    ]
    for producer in gone:
        await producer._ack_jobs()
    return [producer._uuid for producer in gone]


def forget(oban: Oban, uuid: str) -> None:
    """Forget a queue that was stopped."""
    oban.__dict__.get(_SEEN, {}).pop(uuid, None)


async def acknowledge_cancelled(oban: Oban, workers: Container[str] | None) -> None:
    """Acknowledge what a user has cancelled, and its task did not live to tell.

    Those that have ended otherwise are not touched: an acknowledgement says which
    attempt it is about. Relies on `Job._cancellation` and `Query.ack_jobs`.
    """
    fetched = [
        job
        for producer in _producers(oban)
        for job in producer.__dict__.get(_FETCHED, {}).values()
        if job._cancellation is not None and job._cancellation.is_set()
    ]
    acks = [
        AckAction(job=job, state="cancelled", error=await _cancelled(job))
        for job in fetched
        if workers is None or job.worker in workers
    ]
    if acks:
        await oban._query.ack_jobs(acks)


async def _cancelled(job: Job) -> dict[str, Any]:
    error, services = "cancelled while it ran", job.extra.get(EXTRA)
    if services is not None and job.attempted_at is not None:
        wish = await services.cancels.wish(job.id, naive_utc(job.attempted_at))
        error = wish.reason or error
    at = datetime.now(UTC).isoformat()
    return {"attempt": job.attempt, "at": at, "error": error}


def cancel(oban: Oban, ids: Container[int]) -> None:
    """Tell jobs that run here that a user has cancelled them.

    Relies on `Job._cancellation`.
    """
    for job in running(oban).values():
        if job.id in ids and job._cancellation is not None:
            job._cancellation.set()


def wake(oban: Oban) -> None:
    """Let all producers look for jobs. Relies on `Producer.notify`."""
    for producer in _producers(oban):
        producer.notify()


def _producers(oban: Oban) -> Iterable[Producer]:
    # Copies, since other threads ask as well.
    seen = dict(oban.__dict__.get(_SEEN, {}))
    now = {producer._uuid: producer for producer in list(oban._producers.values())}
    return [*{**seen, **now}.values()]
