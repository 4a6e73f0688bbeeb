"""Gives the jobs of processes that died to those that live."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, LiteralString

from oban import Job
from psycopg import AsyncConnection

from . import _oban
from ._codec import storable
from ._connection import fetch
from ._hand_back import HandBack
from ._liveness import Liveness
from ._loop import Loop
from ._query import statement
from ._results import Outcome
from ._services import Services
from .jobs import agent_of

logger = logging.getLogger(__name__)

_PATIENCE = 5.0


class Rescuer(Loop):
    """Looks once a second for producers whose lock nobody holds; one node at a time.

    Args:
        services: What it works with.
        liveness: The locks of this node: as long as it has just lost its own, the
            others may have lost theirs just so.
        hand_back: What gives back the jobs of this node's queues that were stopped.
        workers: The names of the workers of agents; only their jobs have results.
        interval: How many seconds pass between two looks (default 1).
        patience: How many seconds all nodes get to take their locks again after the
            server started, or this node's connection broke (default 5).
    """

    def __init__(
        self,
        services: Services,
        liveness: Liveness,
        hand_back: HandBack,
        workers: frozenset[str],
        *,
        interval: float = 1.0,
        patience: float = _PATIENCE,
    ) -> None:
        super().__init__("rescuer", interval=interval)
        self._services = services
        self._liveness = liveness
        self._hand_back = hand_back
        self._workers = workers
        self._patience = patience

    async def run_once(self) -> float | None:
        """Look once, and rescue what there is."""
        await self._hand_back.stopped_queues()
        await self._hand_back.forgotten()
        if not self._liveness.held_for(self._patience):
            return None
        ended: list[Job] = []
        async with self._services.pool.connection() as conn, conn.transaction():
            if dead := await self._dead(conn):
                rescued = await self._rescue(conn, dead)
                ended = [job for job in rescued if job.state != "available"]
                for job in ended:
                    await self._keep(conn, job)
                values = {"uuids": [*dead], "with_jobs": False}
                await conn.execute(self._sql("delete_producers"), values)
                _tell(dead, rescued)
        await self._services.order.settle([job.id or 0 for job in ended])
        return None

    async def _dead(self, conn: AsyncConnection) -> dict[str, str]:
        values = {"patience": self._patience}
        return dict(await fetch(conn, self._sql("find_dead_producers"), values))

    async def _rescue(self, conn: AsyncConnection, dead: dict[str, str]) -> list[Job]:
        channel = f"{self._services.prefix}.oban_insert"
        values = {"uuids": [*dead], "channel": channel}
        async with conn.cursor(row_factory=_oban.job_row) as cursor:
            await cursor.execute(self._sql("rescue_jobs"), values)
            return await cursor.fetchall()

    async def _keep(self, conn: AsyncConnection, job: Job) -> None:
        if job.worker in self._workers:
            await self._services.results.save(_outcome(job), conn=conn)

    def _sql(self, name: str) -> LiteralString:
        return statement(name, self._services.prefix)


def _tell(dead: dict[str, str], jobs: list[Job]) -> None:
    nodes = sorted(set(dead.values()))
    ids = sorted(job.id or 0 for job in jobs)
    logger.warning("the nodes %s died; rescued: jobs %s", nodes, ids)


def _outcome(job: Job) -> Outcome:
    args = job.args if isinstance(job.args, dict) else {}
    last: Any = job.errors[-1]
    config = args.get("agent_config")
    named = {**args, "agent_config": config if isinstance(config, dict) else {}}
    return Outcome(
        job_id=job.id or 0,
        state=str(job.state),
        attempt=job.attempt,
        agent=storable(agent_of(named)),
        app_name=_text(args.get("app_name")),
        user_id=_text(args.get("user_id")),
        session_id=_text(args.get("session_id")),
        started_at=job.attempted_at or datetime.now(UTC),
        error=last["error"],
    )


def _text(value: object) -> str:
    return "" if value is None else storable(str(value))
