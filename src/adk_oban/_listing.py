"""Pages of jobs, newest first, each filter by its index."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, LiteralString

from oban import Job
from psycopg.rows import AsyncRowFactory, tuple_row
from psycopg_pool import AsyncConnectionPool

from . import _oban
from ._args import show
from ._clock import naive_utc
from ._connection import autocommit
from ._filter import Filter
from ._query import statement

BATCH = 1_000
"""How many jobs one statement takes, at most."""

_CURSOR = re.compile(r"([0-9]{1,18})-([1-9][0-9]{0,18})")
_EPOCH = datetime(1970, 1, 1)
_NAMED = re.compile(r"%\((\w+)\)s")


class Listing:
    """Finds jobs of agents, newest first.

    In which order they come does not change, so that a cursor, which is the place of a
    job, stays right whatever is enqueued meanwhile.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix

    async def page(
        self, wanted: Filter, *, after: str | None = None, limit: int = 50
    ) -> tuple[list[Job], str | None]:
        """Return jobs, and the cursor of the page that follows; None: there is none.

        Args:
            wanted: Which jobs.
            after: The cursor.
            limit: How many at most, 1 to 1000.

        Raises:
            TypeError: The cursor is not text, or the limit no whole number.
            ValueError: The cursor or the limit is wrong.
        """
        check_limit(limit)
        sql, values = self.statement("merge_jobs", wanted, after, limit + 1)
        jobs = await self._rows(sql, values, _oban.job_row)
        if len(jobs) <= limit:
            return jobs, None
        last = jobs[limit - 1]
        assert last.inserted_at and last.id  # noqa: S101  (every row has them)
        return jobs[:limit], _cursor(naive_utc(last.inserted_at), last.id)

    async def batches(self, wanted: Filter) -> AsyncIterator[list[int]]:
        """Yield the ids of all jobs that are there, a batch at a time."""
        after: str | None = None
        while True:
            sql, values = self.statement("find_job_ids", wanted, after, BATCH)
            rows = await self._rows(sql, values, tuple_row)
            if rows:
                yield [job_id for job_id, _at in rows]
            if len(rows) < BATCH:
                return
            job_id, at = rows[-1]
            after = _cursor(at, job_id)

    def statement(
        self, name: str, wanted: Filter, after: str | None, limit: int
    ) -> tuple[LiteralString, dict[str, Any]]:
        """Return the statement of a page, and its values."""
        values: dict[str, Any] = {**wanted.values(), "limit": limit}
        if after is not None:
            values["after_at"], values["after_id"] = _place(after)
        values = {key: value for key, value in values.items() if value is not None}
        states = {f"state_{n}": state for n, state in enumerate(_each(wanted))}
        page = statement("list_jobs", self._prefix)
        pages = [_of_state(_asked(page, {*values, "state"}), name) for name in states]
        merged = "\nUNION ALL\n".join(pages or [f"({_asked(page, {*values})})"])
        sql = statement(name, self._prefix).replace("{pages}", merged)
        return sql, {**values, **states}

    async def _rows[Row](
        self, sql: LiteralString, values: dict[str, Any], row: AsyncRowFactory[Row]
    ) -> list[Row]:
        async with (
            autocommit(self._pool) as conn,
            conn.cursor(row_factory=row) as cursor,
        ):
            # Not prepared: which index is best depends on the values.
            await cursor.execute(sql, values, prepare=False)
            return await cursor.fetchall()


def check_limit(limit: object) -> None:
    """Refuse a limit of a page that is none.

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is not 1 to 1000.
    """
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"limit must be a whole number, got {show(limit)}")
    if not 1 <= limit <= BATCH:
        raise ValueError(f"limit must be 1 to {BATCH}, got {limit!r}")


def _asked(page: LiteralString, given: set[str]) -> LiteralString:
    """Return the statement without the lines whose values are not given."""
    lines = page.splitlines()
    return "\n".join(line for line in lines if given.issuperset(_NAMED.findall(line)))


def _each(wanted: Filter) -> tuple[str, ...]:
    """Return the states that have a page of their own each; none: one for all."""
    if wanted.states or wanted.has_order:
        return wanted.states
    # What no index has in order, the one of states has in that of each state.
    return _oban.STATES


def _of_state(page: LiteralString, name: str) -> str:
    return f"({page.replace('%(state)s', f'%({name})s')})"


def _cursor(at: datetime, job_id: int) -> str:
    return f"{(at - _EPOCH) // timedelta(microseconds=1)}-{job_id}"


def _place(cursor: object) -> tuple[datetime, int]:
    if not isinstance(cursor, str):
        raise TypeError(f"after must be the cursor of a page, got {show(cursor)}")
    wrong = ValueError(
        f"after must be the cursor of a page, its next, got {show(cursor)}"
    )
    found = _CURSOR.fullmatch(cursor)
    if found is None or int(found[2]) >= 2**63:
        raise wrong
    try:
        return _EPOCH + timedelta(microseconds=int(found[1])), int(found[2])
    except OverflowError:
        raise wrong from None
