"""Oban's queries, one statement for many rows: part of the seam, `_oban.py`.

They hold for those Obans that an AdkOban runs with; others keep Oban's own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from oban import Job, telemetry
from oban._executor import AckAction
from oban._lifeline import _rescue
from oban._query import (
    INSERTABLE_FIELDS,
    Query,
    _ack_jobs,
    _insert_jobs,
    unwrap_connection,
)
from psycopg import AsyncConnection, AsyncCursor
from psycopg.types.json import Jsonb

from ._codec import encode
from ._connection import autocommit, fetch
from ._order import WAITS
from ._query import statement

DONE = "adk_oban_done"
"""In a job's `extra`: its completion has been committed with its turn."""

RETRIED = "adk_oban_retried"
"""In a job's `extra`: its turn had landed before, and it only completes once more."""

_SERVICES = "_adk_oban_services"
_ACKED = ("id", "attempted_at", "state", "attempt_change", "schedule_in", "error")


async def ack_jobs(query: Query, acks: list[AckAction]) -> list[int]:
    """Write down how attempts ended; return the ids of those that counted.

    Relies on the fields of `AckAction`, and on the extension `query.ack_jobs`.
    """
    services = getattr(query, _SERVICES, None)
    if services is None:
        acked: list[int] = await _ack_jobs(query, acks)
        return acked
    told = [_told(ack) for ack in acks if not ack.job.extra.get(DONE)]
    done = [ack.id or 0 for ack in acks if ack.job.extra.get(DONE)]
    if not told:
        return done
    values = {"acks": encode(told), "ids": [ack["id"] for ack in told]}
    async with autocommit(query._pool) as conn:
        rows = await fetch(conn, statement("ack_jobs", query._prefix), values)
    ended = {job_id for job_id, has_ended in rows if has_ended}
    counted = {job_id for job_id, _ in rows}
    moved = {ack.id or 0 for ack in acks if _lets_others_go(ack)}
    await services.order.settle(ended | (moved & counted))
    return [*done, *counted]


def _told(ack: AckAction) -> dict[str, Any]:
    told = {name: getattr(ack, name) for name in (*_ACKED, "meta")}
    told["attempted_at"] = _naive("attempted_at", ack.attempted_at)
    return {name: value for name, value in told.items() if value is not None}


def _lets_others_go(ack: AckAction) -> bool:
    if ack.state == "scheduled":
        return (ack.meta or {}).get(WAITS) == "order"
    return bool(ack.job.extra.get(RETRIED))


async def cancel_jobs(query: Query, ids: list[int]) -> tuple[int, list[int]]:
    """Cancel jobs as `AgentJob.cancel` does.

    Relies on `Query.cancel_many_jobs`, whose second result are those that are to be
    told: here they have been.
    """
    services = getattr(query, _SERVICES, None)
    if services is None:
        cancelled: tuple[int, list[int]] = await Query.cancel_many_jobs(query, ids)
        return cancelled
    return len(await services.cancels.cancel(ids)), []


async def unwrap(conn: Any) -> AsyncConnection[Any]:
    """Return the connection in what a caller gives: SQLAlchemy's, or a cursor.

    Relies on `unwrap_connection`.
    """
    found = await unwrap_connection(conn)
    return found.connection if isinstance(found, AsyncCursor) else found


async def insert_jobs(query: Query, jobs: list[Job], conn: Any = None) -> list[Job]:
    """Insert jobs, and give them what the database made of them.

    Relies on `INSERTABLE_FIELDS`, on `unwrap_connection` for the connections of other
    libraries, and on the extension `query.insert_jobs`.
    """
    if getattr(query, _SERVICES, None) is None:
        plain: list[Job] = await _insert_jobs(query, jobs, conn)
        return plain
    if not jobs:
        return []
    sql, values = statement("insert_jobs", query._prefix), _values(query, jobs)
    if conn is None:
        async with autocommit(query._pool) as own:
            rows = await fetch(own, sql, values)
    else:
        result = await (await unwrap_connection(conn)).execute(sql, values)
        rows = await result.fetchall()
    for job, row in zip(jobs, rows, strict=True):
        job.id, job.inserted_at, job.queue, job.scheduled_at, job.state, _ = row
    return list(jobs)


def _values(query: Query, jobs: list[Job]) -> dict[str, Any]:
    rows = [
        {name: _naive(name, getattr(job, name)) for name in INSERTABLE_FIELDS}
        for job in jobs
    ]
    return {"jobs": Jsonb(rows), "channel": f"{query._prefix}.oban_insert"}


def _naive(name: str, value: Any) -> Any:
    # Oban's columns hold UTC without saying so.
    if isinstance(value, datetime):
        return Query._cast_type(name, value).isoformat()
    return value


async def rescue_by_time(query: Query, rescue_after: float) -> None:
    """Rescue the jobs of those who hold no lock, after a time.

    Relies on the extension `lifeline.rescue`.
    """
    if getattr(query, _SERVICES, None) is None:
        await _rescue(query, rescue_after)
        return
    with telemetry.span("oban.lifeline.rescue", {}) as context:
        async with autocommit(query._pool) as conn:
            sql = statement("rescue_jobs_by_time", query._prefix)
            done = await conn.execute(sql, {"rescue_after": rescue_after})
        context.add({"rescued_count": done.rowcount})
