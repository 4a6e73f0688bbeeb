"""Reads and commits turns, for all jobs of a process together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from psycopg_pool import AsyncConnectionPool

from ._batch import Batch
from ._connection import autocommit, fetch
from ._query import statement
from ._turn import (
    Ask,
    Landed,
    Landing,
    Turn,
    array,
    ask_row,
    event_rows,
    landing_text,
    shown_rows,
    turn_of,
)


class Turns:
    """Reads and commits turns.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix
        self._loads = Batch[Ask, "Turn | None"]("load", self._load, limit=20)
        self._commits = Batch[Landing, Landed](
            "commit", self._commit, limit=100, weigh=_weight
        )

    async def begin(self, ask: Ask) -> Turn | None:
        """Read what an attempt needs; None when its job is gone."""
        return await self._loads.submit(ask)

    async def land(self, landing: Landing) -> Landed:
        """Commit a turn, with its result and the completion of its job."""
        stream = landing.turn.stream
        if stream is None:
            return await self._commits.submit(landing)
        # Its last events need no trip of their own, and come before its end.
        landing = replace(landing, shown=stream.withdraw())
        landed = await self._commits.submit(landing)
        if landed.status == "committed":
            stream.landed()
        return landed

    async def load(self, asks: Sequence[Ask]) -> list[Turn | None]:
        """Read what many attempts need."""
        values = {"asked": json.dumps([ask_row(n, ask) for n, ask in enumerate(asks)])}
        async with autocommit(self._pool) as conn:
            rows = await fetch(conn, statement("load_turns", self._prefix), values)
        found = {row[0]: row[1:] for row in rows}
        turns: list[Turn | None] = []
        for n, ask in enumerate(asks):
            turns.append(turn_of(ask, *found[n]) if n in found else None)
            await asyncio.sleep(0)  # a long history takes its time
        return turns

    async def commit(self, landings: Sequence[Landing]) -> list[Landed]:
        """Commit many turns in one transaction, each whole or not at all."""
        values = {
            "turns": array(landing_text(n, each) for n, each in enumerate(landings)),
            "events": array(
                event
                for n, each in enumerate(landings)
                for event in event_rows(n, each.turn)
            ),
            "shown": array(
                row for n, each in enumerate(landings) for row in shown_rows(n, each)
            ),
        }
        async with autocommit(self._pool) as conn:
            rows = await fetch(conn, statement("commit_turns", self._prefix), values)
        found = {n: Landed(status, has_next) for n, status, has_next in rows}
        return [found[n] for n in range(len(landings))]

    async def _load(self, asks: Sequence[Ask]) -> list[Turn | None]:
        return await self.load(asks)

    async def _commit(self, landings: Sequence[Landing]) -> list[Landed]:
        done: dict[int, Landed] = {}
        for places in _apart(landings):
            results = await self.commit([landings[place] for place in places])
            done.update(zip(places, results, strict=True))
        lost = [place for place, landed in done.items() if landed.status == "lost"]
        if lost:
            # An earlier try whose answer was lost may have been open until just now.
            again = await self.commit([landings[place] for place in lost])
            done.update(zip(lost, again, strict=True))
        return [done[place] for place in range(len(landings))]


def _weight(landing: Landing) -> int:
    blobs = (
        part.inline_data.data
        for event in landing.turn.added
        if event.content is not None
        for part in event.content.parts or ()
        if part.inline_data is not None
    )
    shown = sum(len(row["data"]) for row in landing.shown)
    return 4_000 + shown + sum(len(data or b"") for data in blobs)


def _apart(landings: Sequence[Landing]) -> Iterator[list[int]]:
    """Split turns so that no two of one transaction write the same row."""
    left = list(range(len(landings)))
    while left:
        taken, later, rows = list[int](), list[int](), set[tuple[str, ...]]()
        for place in left:
            mine = _rows(landings[place].turn)
            if rows.isdisjoint(mine):
                rows |= mine
                taken.append(place)
            else:
                later.append(place)
        yield taken
        left = later


def _rows(turn: Turn) -> set[tuple[str, ...]]:
    session = turn.session
    rows: set[tuple[str, ...]] = {(session.app_name, session.user_id, session.id)}
    keys = [key for event in turn.added for key in event.actions.state_delta]
    if any(key.startswith("app:") for key in keys):
        rows.add((session.app_name,))
    if any(key.startswith("user:") for key in keys):
        rows.add((session.app_name, session.user_id))
    return rows
