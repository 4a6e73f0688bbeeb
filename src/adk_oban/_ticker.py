"""Makes the jobs of schedules: exactly one for each tick, whoever is leader."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from oban import Job, Oban
from oban.worker import worker_name
from psycopg import AsyncConnection, OperationalError
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from ._cron import last_tick, next_tick
from ._loop import Loop
from ._query import statement
from ._schedules import StoredSchedule
from .scheduled import ScheduledJob

logger = logging.getLogger(__name__)

GRACE = timedelta(minutes=1)
"""A tick that is later than this was missed."""


class Ticker(Loop):
    """Looks for schedules that are due, on every node.

    A schedule's row is locked, its jobs are inserted and its next tick is written in
    one transaction: two nodes cannot run one tick, and a crash neither loses nor
    doubles it.

    Args:
        oban: What inserts the jobs.
        pool: Connections to the database.
        prefix: The schema of the tables.
        interval: How many seconds pass between two looks at most (default 1).
    """

    def __init__(
        self,
        oban: Oban,
        pool: AsyncConnectionPool,
        prefix: str,
        *,
        interval: float = 1.0,
    ) -> None:
        super().__init__("ticker", interval=interval)
        self._oban = oban
        self._pool = pool
        self._prefix = prefix

    async def run_once(self) -> float | None:
        """Make the jobs that are due; return in how many seconds the next one is."""
        async with self._pool.connection() as conn:
            async with conn.transaction():
                for schedule in await self._due(conn):
                    await self._try(conn, schedule)
            sql = statement("get_next_tick", self._prefix)
            row = await (await conn.execute(sql)).fetchone()
        return None if row is None else float(row[0])

    async def _due(self, conn: AsyncConnection) -> list[StoredSchedule]:
        sql = statement("lock_due_schedules", self._prefix)
        async with conn.cursor(row_factory=class_row(StoredSchedule)) as cursor:
            return await (await cursor.execute(sql)).fetchall()

    async def _try(self, conn: AsyncConnection, schedule: StoredSchedule) -> None:
        try:
            async with conn.transaction():
                await self._run_due(conn, schedule)
        except OperationalError:
            raise
        except Exception:
            # Its row is of no use, and would be in the way of the others for ever.
            logger.exception("schedule %r failed, and is paused now", schedule.name)
            sql = statement("pause_schedule", self._prefix)
            await conn.execute(sql, {"name": schedule.name})

    async def _run_due(self, conn: AsyncConnection, schedule: StoredSchedule) -> None:
        ticks, upcoming = due_ticks(schedule, await _now(conn))
        last: int | None = None
        for tick in ticks:
            job = await self._oban.enqueue(job_of(schedule, tick), conn=conn)
            last = job.id
        advanced = {
            "name": schedule.name,
            "next_run_at": upcoming,
            "last_run_at": ticks[-1] if ticks else None,
            "last_job_id": last,
        }
        await conn.execute(statement("advance_schedule", self._prefix), advanced)


async def _now(conn: AsyncConnection) -> datetime:
    # By the clock that said it was due: nodes' own clocks differ.
    row = await (await conn.execute("SELECT clock_timestamp()")).fetchone()
    now: datetime = row[0] if row else datetime.now(UTC)
    return now


def due_ticks(
    schedule: StoredSchedule, now: datetime
) -> tuple[list[datetime], datetime]:
    """Return the ticks that are to be run at a time, and the next one after it.

    Ticks of the last minute are all run. Of older ones, none (`missed="skip"`) or the
    latest (`"run_once"`).
    """
    expression, timezone = schedule.expression, schedule.timezone
    tick, edge = schedule.next_run_at, now - GRACE
    ticks: list[datetime] = []
    if tick < edge:
        missed = last_tick(expression, timezone, first=tick, until=edge)
        ticks = [missed] if schedule.missed == "run_once" else []
        tick = next_tick(expression, timezone, after=missed)
    while tick <= now:
        ticks.append(tick)
        tick = next_tick(expression, timezone, after=tick)
    return ticks, tick


def job_of(schedule: StoredSchedule, tick: datetime) -> Job:
    """Return the job of one tick, with the meta that Oban's own cron gives."""
    cron = {
        "cron": True,
        "cron_at": tick.isoformat(),
        "cron_expr": schedule.expression,
        "cron_name": schedule.name,
        "cron_tz": schedule.timezone,
    }
    options = {**schedule.options, "meta": {**schedule.options.get("meta", {}), **cron}}
    return Job(worker_name(ScheduledJob), args=dict(schedule.args), **options)
