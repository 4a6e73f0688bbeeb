"""Gives running jobs back when a node stops, as if this attempt had not been."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from oban import Oban
from psycopg_pool import AsyncConnectionPool

from . import _oban_producers as _producers
from ._connection import autocommit, fetch
from ._order import Order
from ._query import statement

logger = logging.getLogger(__name__)

_FETCH_TAKES = 10.0  # seconds at most
_END_TIMEOUT = 5.0  # seconds that jobs get to end after they were cancelled


class HandBack:
    """Hands back what an Oban still runs.

    Args:
        oban: The Oban.
        pool: Connections to the database.
        prefix: The schema of the tables.
        workers: The names of our workers.
        goes_on: Whether the Oban runs on: then only jobs of ours are handed back,
            after the time of grace.
    """

    def __init__(
        self,
        oban: Oban,
        pool: AsyncConnectionPool,
        prefix: str,
        workers: frozenset[str],
        *,
        goes_on: bool = False,
    ) -> None:
        self._oban = oban
        self._pool = pool
        self._prefix = prefix
        self._named = workers if goes_on else None
        self._goes_on = goes_on
        self._hurried = False
        self._missing: set[int] = set()

    def hurry(self) -> None:
        """End the time of grace of a stop that is under way."""
        self._hurried = True
        if not self._goes_on:
            _producers.end_grace(self._oban)
        for task in _producers.running(self._oban, workers=self._named):
            task.cancel()

    async def run(self) -> None:
        """Hand back what still runs; other nodes rescue what cannot be handed back."""
        try:
            await (self._agents() if self._goes_on else self._everything())
        except Exception:
            logger.exception("jobs could not be handed back")

    async def _everything(self) -> None:
        # Oban has stopped, and has cancelled its jobs without waiting for their end.
        await self._end(_producers.running(self._oban))
        try:
            await _producers.acknowledge(self._oban)
        except Exception:
            # Jobs that have ended, and are run once more for want of the word.
            logger.exception("what has ended could not be acknowledged")
        await self._give(_producers.uuids_of(self._oban))

    async def _agents(self) -> None:
        tasks = _producers.running(self._oban, workers=self._named)
        if tasks:
            grace = 0 if self._hurried else _producers.grace_of(self._oban)
            await asyncio.wait(tasks, timeout=grace)
        await self._end(_producers.running(self._oban, workers=self._named))
        await self._acknowledged()
        acked = _producers.unacknowledged(self._oban)
        await self._give(_producers.uuids_of(self._oban), acked=acked)

    async def stopped_queues(self) -> None:
        """Hand back what was left behind by queues that were stopped."""
        for uuid in await _producers.stopped(self._oban):
            await self._give([uuid])
            _producers.forget(self._oban, uuid)

    async def forgotten(self) -> None:
        """Hand back what the database says runs here, and does not; end what must not.

        The answer to a fetch may be lost with its connection, after the server has
        given the jobs to this node. They are given back when two looks miss them.
        """
        values = {"uuids": _producers.uuids_of(self._oban), "patience": _FETCH_TAKES}
        async with autocommit(self._pool) as conn:
            sql = statement("find_executing_jobs", self._prefix)
            rows = await fetch(conn, sql, values)
        # Whose word was lost while nobody listened.
        cancelled = {job_id for job_id, is_cancelled, _ in rows if is_cancelled}
        _producers.cancel(self._oban, cancelled)
        known = _producers.known(self._oban)
        missing = {job_id for job_id, _, is_old in rows if is_old} - known
        lost, self._missing = missing & self._missing, missing
        if lost:
            logger.warning(
                "jobs %s were given to this node, which does not know them", lost
            )
            await self._give(_producers.uuids_of(self._oban), ids=sorted(lost))

    async def _end(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        tasks = [*tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            _done, late = await asyncio.wait(tasks, timeout=_END_TIMEOUT)
            if late:
                logger.warning("%d cancelled jobs go on; they write nothing", len(late))

    async def _acknowledged(self) -> None:
        """Wait until the Oban, which goes on, has acknowledged what has ended."""
        deadline = asyncio.get_running_loop().time() + _END_TIMEOUT
        while _producers.unacknowledged(self._oban):
            if asyncio.get_running_loop().time() > deadline:
                break
            _producers.wake(self._oban)
            await asyncio.sleep(0.01)

    async def _give(
        self,
        uuids: list[str],
        *,
        acked: Iterable[int] = (),
        ids: list[int] | None = None,
    ) -> None:
        if not uuids:
            return
        await _producers.acknowledge_cancelled(self._oban, self._named)
        values = {
            "uuids": uuids,
            "workers": None if self._named is None else [*self._named],
            "acked": [*acked],
            "ids": ids,
            "channel": f"{self._prefix}.oban_insert",
        }
        async with autocommit(self._pool) as conn:
            rows = await fetch(conn, statement("hand_back_jobs", self._prefix), values)
        cancelled = [job_id for job_id, has_ended in rows if has_ended]
        await Order(self._pool, self._prefix).settle(cancelled)
        if given := sorted(job_id for job_id, has_ended in rows if not has_ended):
            logger.info("handed back: jobs %s", given)
