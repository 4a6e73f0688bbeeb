"""The table of events, read for many watchers together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg_pool import AsyncConnectionPool

from ._batch import Batch
from ._connection import autocommit, fetch
from ._query import statement
from .events import OUTCOMES, JobEvent, event_of

# Of one job at once: how many events, and of how many bytes.
_LIMIT = 100
_WEIGHT = 262_144

_ENDED = (None, "completed", "discarded", "cancelled")


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, and how many steps of the job had been done when it was made."""

    event: JobEvent
    id: int
    steps: int


@dataclass(frozen=True, slots=True)
class Page:
    """What came after a place in a job's events.

    Attributes:
        job_state: Oban's state of the job; None when there is no such job.
        last_id: The number of its newest event; None when it has none.
        last_type: The type of that.
        entries: The events, in order.
    """

    job_state: str | None
    last_id: int | None
    last_type: str | None
    entries: tuple[Entry, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether nothing more is there by now."""
        return not self.entries or self.entries[-1].id == self.last_id

    @property
    def ended(self) -> bool:
        """Whether the job has ended, for good unless somebody retries it."""
        return self.job_state in _ENDED

    @property
    def told(self) -> bool:
        """Whether the newest event says how it ended."""
        return self.last_type in OUTCOMES


class EventLog:
    """The table of events.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix
        self._reads = Batch[tuple[int, int], Page]("follow", self._read, limit=1_000)

    async def after(self, job_id: int, position: int) -> Page:
        """Return what happened in a job after an event's number; 0: from the start."""
        return await self._reads.submit((job_id, position))

    async def _read(self, asked: Sequence[tuple[int, int]]) -> list[Page]:
        # A thousand who are at the same place read it once.
        places = list(dict.fromkeys(asked))
        pages: dict[tuple[int, int], Page] = {}
        for start in range(0, len(places), _LIMIT):
            pages |= await self._pages(places[start : start + _LIMIT])
        return [pages[place] for place in asked]

    async def _pages(
        self, places: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], Page]:
        rows = [
            {"n": n, "job_id": job_id, "after": after}
            for n, (job_id, after) in enumerate(places)
        ]
        values = {"asked": json.dumps(rows), "limit": _LIMIT, "weight": _WEIGHT}
        async with autocommit(self._pool) as conn:
            sql = statement("read_events", self._prefix)
            found = await fetch(conn, sql, values)
        heads: dict[int, tuple[str | None, int | None, str | None]] = {}
        entries: dict[int, list[Entry]] = {n: [] for n in range(len(places))}
        for n, state, last_id, last_type, id, type, attempt, steps, data, at in found:
            heads[n] = (state, last_id, last_type)
            if id is not None:
                event = event_of(places[n][0], id, type, attempt, data, at)
                entries[n].append(Entry(event, id, steps or 0))
        return {
            place: Page(*heads[n], tuple(entries[n])) for n, place in enumerate(places)
        }
