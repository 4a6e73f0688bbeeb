"""The seam to Oban: with `_oban_*.py`, the only one that touches its private parts.

Each function names what of Oban it relies on; `tests/test_oban.py` has a test for
each, which tells what broke when Oban changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from oban import Job, Oban
from oban._backoff import jittery_clamped
from oban._executor import Executor
from oban._extensions import get_ext, put_ext
from oban._lifeline import _rescue
from oban._notifier import build_notifier
from oban._producer import _get_jobs
from oban._query import Query, _ack_jobs, _insert_jobs
from oban.job import JobState
from oban.worker import _registry, register_worker, worker_name
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from . import _oban_notifier, _oban_producers, _oban_queries

STATES = tuple(str(state) for state in JobState)
"""The states of a job."""

_SERVICES = "_adk_oban_services"


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


def make(*, direct_dsn: str | None = None, **options: Any) -> Oban:
    """Make an Oban that leaves nothing behind when its server was away.

    Relies on the extension `notifier.build`, which holds for the whole process, and on
    `Oban._notifier`.

    Args:
        direct_dsn: Where it listens; None for the DSN of its pool.
        **options: What `Oban` takes.
    """
    _extend("notifier.build", build_notifier, _oban_notifier.build)
    oban = Oban(**options)
    notifier = oban._notifier
    if direct_dsn and isinstance(notifier, _oban_notifier.DirectNotifier):
        notifier.listen_on(direct_dsn)
    return oban


@asynccontextmanager
async def started(oban: Oban) -> AsyncIterator[None]:
    """Run an Oban; a start that fails halfway leaves nothing behind either.

    Relies on `Oban._signal_token`, without which `Oban.stop` does nothing.
    """
    try:
        await oban.start()
        yield
    finally:
        if oban._signal_token is None:
            setattr(oban, "_signal_token", "none")  # noqa: B010  (None is its type)
        await oban.stop()


def bind(oban: Oban, services: object) -> None:
    """Give an Oban the services that its agents' jobs run with.

    Relies on the extensions `producer.get_jobs`, `query.ack_jobs`,
    `query.insert_jobs` and `lifeline.rescue`, and on `Query.cancel_many_jobs`.

    Raises:
        RuntimeError: It has some already.
    """
    if getattr(oban, _SERVICES, None) is not None:
        raise RuntimeError(
            f"an AdkOban named {oban._name!r} runs in this process already; give the "
            "second one a name: AdkOban(name=...)"
        )
    setattr(oban, _SERVICES, services)
    setattr(oban._query, _SERVICES, services)
    cancel_jobs = partial(_oban_queries.cancel_jobs, oban._query)
    setattr(oban._query, "cancel_many_jobs", cancel_jobs)  # noqa: B010  (mypy: a method)
    _extend("producer.get_jobs", _get_jobs, _get_jobs_with_services)
    _extend("query.ack_jobs", _ack_jobs, _oban_queries.ack_jobs)
    _extend("query.insert_jobs", _insert_jobs, _oban_queries.insert_jobs)
    _extend("lifeline.rescue", _rescue, _oban_queries.rescue_by_time)


def _extend(name: str, default: Callable[..., Any], ours: Callable[..., Any]) -> None:
    # Unless somebody else, such as Oban Pro, has extended it already.
    if get_ext(name, default) is default:
        put_ext(name, ours)


def unbind(oban: Oban) -> None:
    """Take the services away from an Oban."""
    setattr(oban, _SERVICES, None)
    setattr(oban._query, _SERVICES, None)


def services(name: str) -> Any:
    """Return the `Services` of the running AdkOban of this name, or None."""
    try:
        oban = Oban.get_instance(name)
    except RuntimeError:
        return None
    return getattr(oban, _SERVICES, None)


def services_of(job: Job) -> Any:
    """Return the `Services` that came with a fetched job, or None."""
    return job.extra.get(_oban_producers.EXTRA)


async def _get_jobs_with_services(producer: Any) -> list[Job]:
    return await _oban_producers.get_jobs(producer, services(producer._name))


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
    oban: Oban,
    channel: str,
    callback: Callable[[str, dict[str, Any]], None],
    *,
    wait: bool = True,
) -> str:
    """Call back for each notification on a channel of Oban's listening connection.

    Waits until it listens, to this channel and to those that were asked for before, so
    that what happens from here on is heard of at once; or does not `wait`.

    Relies on `Oban._notifier.listen`; the channel's full name is
    `<prefix>.oban_<channel>`, and a payload that starts with `{` is read as JSON.

    Returns:
        A token for `unlisten`.
    """
    token: str = await oban._notifier.listen(channel, callback, wait=wait, timeout=5.0)
    return token


def on_listening(oban: Oban, callback: Callable[[], None]) -> bool:
    """Call back each time the listening connection begins to listen, or does so again.

    Relies on `Oban._notifier`.

    Returns:
        Whether that can be known: not of a notifier that is somebody else's.
    """
    notifier = oban._notifier
    if not isinstance(notifier, _oban_notifier.DirectNotifier):
        return False
    notifier.on_listening.append(callback)
    return True


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
    job.extra[_oban_producers.EXTRA] = services(oban._name)
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
