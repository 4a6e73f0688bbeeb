"""The seam to Oban: the only module that touches its private parts.

Each function names what of Oban it relies on; `tests/test_oban.py` has a test for
each, which tells what broke when Oban changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from oban import Job, Oban
from oban._backoff import jittery_clamped
from oban._executor import Executor
from oban._extensions import get_ext, put_ext
from oban._notifier import Notifier, PostgresNotifier, build_notifier
from oban._producer import Producer, _get_jobs
from oban._query import Query
from oban.job import JobState
from oban.worker import _registry, register_worker, worker_name
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

STATES = tuple(str(state) for state in JobState)
"""The states of a job."""

_SERVICES = "_adk_oban_services"
_EXTRA = "adk_oban"


def register(worker: type, *aliases: str) -> None:
    """Make a class a worker that rows may name, also under the names of `aliases`.

    Relies on `oban.worker._registry`, in which `resolve_worker` looks first.
    """
    register_worker(worker)
    for alias in aliases:
        _registry[alias] = worker


def names_of(worker: type) -> list[str]:
    """Return all names under which rows may name a worker, its own first."""
    own = worker_name(worker)
    return [own, *(n for n, w in _registry.items() if w is worker and n != own)]


def make(**options: Any) -> Oban:
    """Make an Oban that leaves nothing behind when its server was away.

    Relies on the extension `notifier.build`, which holds for the whole process.
    """
    _extend("notifier.build", build_notifier, _build_notifier)
    return Oban(**options)


def bind(oban: Oban, services: object) -> None:
    """Give an Oban the services that its agents' jobs run with.

    Raises:
        RuntimeError: It has some already.
    """
    if getattr(oban, _SERVICES, None) is not None:
        raise RuntimeError(
            f"an AdkOban named {oban._name!r} runs in this process already; give the "
            "second one a name: AdkOban(name=...)"
        )
    setattr(oban, _SERVICES, services)
    _extend("producer.get_jobs", _get_jobs, _get_jobs_with_services)


def _extend(name: str, default: Callable[..., Any], ours: Callable[..., Any]) -> None:
    # Unless somebody else, such as Oban Pro, has extended it already.
    if get_ext(name, default) is default:
        put_ext(name, ours)


def unbind(oban: Oban) -> None:
    """Take the services away from an Oban."""
    setattr(oban, _SERVICES, None)


def services(name: str) -> Any:
    """Return the `Services` of the running AdkOban of this name, or None."""
    try:
        oban = Oban.get_instance(name)
    except RuntimeError:
        return None
    return getattr(oban, _SERVICES, None)


def services_of(job: Job) -> Any:
    """Return the `Services` that came with a fetched job, or None."""
    return job.extra.get(_EXTRA)


async def _get_jobs_with_services(producer: Producer) -> list[Job]:
    # A worker is built without arguments, so what it needs travels with the job.
    jobs: list[Job] = await _get_jobs(producer)
    found = services(producer._name)
    for job in jobs:
        job.extra[_EXTRA] = found
    return jobs


def cancellation_of(job: Job) -> asyncio.Event | None:
    """Return the event that is set when a running job is cancelled.

    Relies on `Job._cancellation`.
    """
    event: asyncio.Event | None = job._cancellation
    return event


def default_backoff(job: Job) -> int:
    """Return how many seconds Oban itself lets a failed job wait.

    Relies on `oban._backoff.jittery_clamped`.
    """
    return jittery_clamped(job.attempt, job.max_attempts)


def pool_of(oban: Oban) -> AsyncConnectionPool:
    """Return an Oban's connection pool. Relies on `Oban._query._pool`."""
    return oban._query._pool


def prefix_of(oban: Oban) -> str:
    """Return the schema of an Oban's tables. Relies on `Oban._prefix`."""
    prefix: str = oban._prefix
    return prefix


def name_of(oban: Oban) -> str:
    """Return an Oban's name. Relies on `Oban._name`."""
    name: str = oban._name
    return name


def slots_of(oban: Oban) -> int:
    """Return how many jobs an Oban runs at once. Relies on `Oban.check_all_queues`."""
    return sum(queue.limit for queue in oban.check_all_queues())


async def listen(
    oban: Oban, channel: str, callback: Callable[[str, dict[str, Any]], None]
) -> str:
    """Call back for each notification on a channel of Oban's listening connection.

    Waits until it listens, to this channel and to those that were asked for before, so
    that what happens from here on is heard of at once.

    Relies on `Oban._notifier.listen`; the channel's full name is
    `<prefix>.oban_<channel>`, and a payload that starts with `{` is read as JSON.

    Returns:
        A token for `unlisten`.
    """
    token: str = await oban._notifier.listen(channel, callback, wait=True, timeout=5.0)
    return token


async def unlisten(oban: Oban, token: str) -> None:
    """Stop calling back. Relies on `Oban._notifier.unlisten`."""
    await oban._notifier.unlisten(token)


async def run_next(oban: Oban, queue: str) -> str | None:
    """Run one job that is available in a queue, here and now, as a producer would.

    Relies on `Query.fetch_jobs`, `Executor` and `Query.ack_jobs`.

    Returns:
        The state in which the job ended, or None when there was none.
    """
    query: Query = oban._query
    jobs = await query.fetch_jobs(demand=1, queue=queue, node=oban._node, uuid="drain")
    if not jobs:
        return None
    job = jobs[0]
    job.extra[_EXTRA] = services(oban._name)
    job._cancellation = asyncio.Event()
    executor = await Executor(job=job, safe=True).execute()
    if executor.action is not None:
        await query.ack_jobs([executor.action])
    return executor.status


async def stage(oban: Oban, queue: str, *, before: Any) -> None:
    """Make jobs available that are due before a time. Relies on `Query.stage_jobs`."""
    await oban._query.stage_jobs(limit=1000, queues=[queue], before=before)


job_row = class_row(Job)
"""Makes an `oban.Job` of a row of `oban_jobs`, as Oban's own queries do."""


def _build_notifier(spec: dict[str, Any], query: Query) -> Notifier:
    if spec.get("type", "postgres") != "postgres":
        return build_notifier(spec, query)
    options = {name: value for name, value in spec.items() if name != "type"}
    return _Notifier(query=query, prefix=query._prefix, **options)


class _Notifier(PostgresNotifier):
    """Oban's notifier, which also cleans up after a connection that broke.

    Oban's own forgets such a connection unclosed, and keeps the task that beats on it;
    stopped before it has another, it does not stop at all.

    Relies on `_connect`, `_reconnect`, `_conn`, `_loop_task` and `_beat_task`.
    """

    _stopped = False
    _opened: AsyncConnection | None = None
    _reconnecting: asyncio.Task[Any] | None = None

    async def _connect(self) -> None:
        await super()._connect()
        self._opened = self._conn

    async def _reconnect(self) -> None:
        seen = self._reconnecting is not None and not self._reconnecting.done()
        if seen or self._stopped:  # the loop and the beat both see that it broke
            return
        self._reconnecting = asyncio.current_task()
        await self._end(self._loop_task, self._beat_task)
        await super()._reconnect()

    async def stop(self) -> None:
        self._stopped = True
        await self._end(self._reconnecting)
        await self._end(self._loop_task, self._beat_task)

    async def _end(self, *tasks: asyncio.Task[Any] | None) -> None:
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._opened is not None:
            await self._opened.close()
            self._opened = None
