"""The soak itself: what goes on at once, until all jobs have ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from adk_oban import AdkOban, AgentWorker
from bench.crew import Member, crew
from bench.database import Database
from bench.soak.clerk import NAME
from bench.soak.desk import Desk
from bench.soak.followers import Follower
from bench.soak.killer import Kill, Killer
from bench.soak.plan import Plan
from bench.stock import QUEUE
from bench.worker import Spec

_WORKERS = 2
_SLOTS = 20
_ATTEMPTS = 50  # each kill takes one
_PATIENCE = 60  # seconds until what has not ended never will
_CLIENT = "soak-followers"

_LEFT = """
SELECT count(*) FROM oban_jobs
WHERE queue = %s AND state NOT IN ('completed', 'discarded', 'cancelled')
"""
_CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = %s
"""


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak leaves behind, beside its database.

    Attributes:
        ids: The jobs' ids, by their numbers.
        desk: Who answered.
        followers: Who followed.
        kills: Which processes were killed.
        cuts: How many connections of the followers' were cut.
        seconds: How long it took until the last job had ended.
    """

    ids: list[int]
    desk: Desk
    followers: list[Follower]
    kills: list[Kill]
    cuts: int
    seconds: float


class Soak:
    """Lets jobs come, people answer and follow, and workers die.

    Args:
        plan: How much of it.
        database: Where.
    """

    def __init__(self, plan: Plan, database: Database) -> None:
        self._plan = plan
        self._database = database
        self._cuts = 0

    async def run(self) -> Soaked:
        """Do it, and return when all is over, or takes too long."""
        dsn = self._database.dsn
        specs = [
            Spec(dsn, "ours", _SLOTS, number, paused=False)
            for number in range(_WORKERS)
        ]
        apart = f"{dsn}&application_name={_CLIENT}"
        async with (
            crew(*specs) as members,
            AdkOban(dsn) as jobs,
            AdkOban(apart, name=_CLIENT) as followed,
        ):
            return await self._all(members, jobs, followed)

    async def _all(
        self, members: list[Member], jobs: AdkOban, followed: AdkOban
    ) -> Soaked:
        plan = self._plan
        desk = Desk(jobs, plan.seed)
        killer = Killer(members, plan.chance("kills"))
        followers = [
            Follower(followed, plan.chance(f"follower {number}"))
            for number in range(plan.followers)
        ]
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            endless = [group.create_task(each) for each in (desk.work(), self._cut())]
            killing = group.create_task(
                killer.work(seconds=plan.seconds, every=plan.kill_every)
            )
            ids, following = await self._enqueue(group, followers)
            await killing
            await self._ended()
            seconds = time.monotonic() - began
            for task in endless:
                task.cancel()
            _, late = await asyncio.wait(following, timeout=_PATIENCE / 2)
            for task in late:
                task.cancel()
        return Soaked(ids, desk, followers, killer.kills, self._cuts, seconds)

    async def _enqueue(
        self, group: asyncio.TaskGroup, followers: list[Follower]
    ) -> tuple[list[int], list[asyncio.Task[None]]]:
        """Enqueue the jobs over the time, each with those who follow it."""
        ids, following = [], []
        began = time.monotonic()
        planned = zip(self._plan.arrivals(), self._plan.followed(), strict=True)
        for number, (at, mine) in enumerate(planned):
            await asyncio.sleep(began + at - time.monotonic())
            job = await AgentWorker.enqueue(
                NAME,
                f"user-{number % 100}",
                str(number),
                queue=QUEUE,
                max_attempts=_ATTEMPTS,
            )
            ids.append(job.id)
            for each in mine:
                following.append(group.create_task(followers[each].follow(job.id)))
        return ids, following

    async def _cut(self) -> None:
        """Cut the followers' connections, again and again."""
        while True:
            await asyncio.sleep(self._plan.cut_every)
            self._cuts += await self._database.one(_CUT, _CLIENT)

    async def _ended(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while await self._database.one(_LEFT, QUEUE):
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.1)
