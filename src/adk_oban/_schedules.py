"""The schedules in the database, whoever put them there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from ._cron import next_tick
from ._query import statement
from .agents import AgentRegistry
from .jobs import agent_of
from .scheduled import Schedule


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule as the database has it.

    Attributes:
        name: What it is known by.
        expression: Its cron expression.
        timezone: The zone in which that is meant.
        args: The args of its jobs.
        options: Their queue, attempts, priority, tags and meta.
        missed: What becomes of missed ticks: `"skip"` or `"run_once"`.
        declared_by: The name of the `AdkOban` whose code declares it; None when it was
            added at run time.
        paused_at: Since when it makes no jobs; None while it does.
        next_run_at: Its next tick.
        last_run_at: The tick that last made a job.
        last_job_id: That job.
    """

    name: str
    expression: str
    timezone: str
    args: dict[str, Any]
    options: dict[str, Any]
    missed: str
    declared_by: str | None
    paused_at: datetime | None
    next_run_at: datetime
    last_run_at: datetime | None
    last_job_id: int | None

    @property
    def agent(self) -> str:
        """The name of the agent that it runs."""
        return agent_of(self.args)


class Schedules:
    """Adds, lists, pauses, resumes and removes schedules; `AdkOban.schedules`.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
        agents: The agents that they may name, where that is known.
    """

    def __init__(
        self, pool: AsyncConnectionPool, prefix: str, agents: AgentRegistry | None
    ) -> None:
        self._pool = pool
        self._prefix = prefix
        self._agents = agents

    async def add(self, schedule: Schedule) -> StoredSchedule:
        """Add a schedule; its first job comes with its next tick.

        Raises:
            ValueError: There is one of this name already, or its agent is unknown.

        Example:
            >>> await jobs.schedules.add(Schedule("@daily", "cleaner"))
        """
        self._check(schedule)
        sql = statement("insert_schedule", self._prefix)
        async with self._pool.connection() as conn:
            added = await (await conn.execute(sql, _row(schedule))).fetchone()
        if added is None:
            raise ValueError(
                f"a schedule named {schedule.name!r} is there already; remove it "
                "first, or give this one another name"
            )
        return await self.get(schedule.name)

    async def declare(self, schedules: Iterable[Schedule], *, by: str) -> None:
        """Make the database have what code declares, and no more of the same code's.

        A pause survives, and so does the next tick unless the expression changed.

        Args:
            schedules: All that `by` declares.
            by: The name of the `AdkOban` that declares them.

        Raises:
            ValueError: Two have one name, or an agent is unknown.
        """
        declared = list(schedules)
        names = [schedule.name for schedule in declared]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two schedules are named {twice!r}; give them name=...")
        for schedule in declared:
            self._check(schedule)
        async with self._pool.connection() as conn, conn.transaction():
            gone = {"declared_by": by, "names": names}
            sql = statement("delete_undeclared_schedules", self._prefix)
            await conn.execute(sql, gone)
            # In one order everywhere, lest nodes that start at once deadlock.
            for schedule in sorted(declared, key=lambda schedule: schedule.name):
                row = {**_row(schedule), "declared_by": by}
                await conn.execute(statement("upsert_schedule", self._prefix), row)

    async def list(self) -> list[StoredSchedule]:
        """Return all schedules, by name."""
        sql = statement("list_schedules", self._prefix)
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=class_row(StoredSchedule)) as cursor,
        ):
            return await (await cursor.execute(sql)).fetchall()

    async def get(self, name: str) -> StoredSchedule:
        """Return one schedule.

        Raises:
            ValueError: There is none of this name.
        """
        for stored in await self.list():
            if stored.name == name:
                return stored
        raise await self._unknown(name)

    async def pause(self, name: str) -> StoredSchedule:
        """Let a schedule make no jobs until it is resumed; also over deploys.

        Raises:
            ValueError: There is none of this name.
        """
        await self._change("pause_schedule", name)
        return await self.get(name)

    async def resume(self, name: str) -> StoredSchedule:
        """Let a paused schedule go on with its next tick; none of the pause is made up.

        Raises:
            ValueError: There is none of this name.
        """
        async with self._pool.connection() as conn, conn.transaction():
            row = await self._lock(conn, name)
            if row is not None and row.paused_at is not None:
                now = datetime.now(UTC)
                tick = next_tick(row.expression, row.timezone, after=now)
                sql = statement("resume_schedule", self._prefix)
                await conn.execute(sql, {"name": name, "next_run_at": tick})
        return await self.get(name)

    async def remove(self, name: str) -> None:
        """Delete a schedule; jobs that it made stay.

        One that code declares comes back with the next start of that code.

        Raises:
            ValueError: There is none of this name.
        """
        await self._change("delete_schedule", name)

    async def _lock(self, conn: AsyncConnection, name: str) -> StoredSchedule | None:
        sql = statement("lock_schedule", self._prefix)
        async with conn.cursor(row_factory=class_row(StoredSchedule)) as cursor:
            return await (await cursor.execute(sql, {"name": name})).fetchone()

    async def _change(self, query: str, name: str) -> None:
        sql = statement(query, self._prefix)
        async with self._pool.connection() as conn:
            row = await (await conn.execute(sql, {"name": name})).fetchone()
        if row is None:
            raise await self._unknown(name)

    async def _unknown(self, name: str) -> ValueError:
        names = [stored.name for stored in await self.list()]
        return ValueError(f"no schedule is named {name!r}; there are: {names!r}")

    def _check(self, schedule: Schedule) -> None:
        if self._agents is None:
            return
        if isinstance(schedule.agent, str):
            self._agents.check(schedule.agent)
        else:
            self._agents.check_config(schedule.agent)


def _row(schedule: Schedule) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "name": schedule.name,
        "expression": schedule.expression,
        "timezone": schedule.timezone,
        "args": Jsonb(schedule.args()),
        "options": Jsonb(schedule.options()),
        "missed": schedule.missed,
        "next_run_at": next_tick(schedule.expression, schedule.timezone, after=now),
    }
