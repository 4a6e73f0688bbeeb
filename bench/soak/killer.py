"""The workers: one of them at random is killed every few seconds, and started again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from random import Random

from bench.crew import Member


@dataclass(frozen=True, slots=True)
class Kill:
    """A process that was killed, and when, in seconds."""

    pid: int
    at: float


class Killer:
    """Kills workers, and starts them again under the same name.

    Args:
        members: The workers; one that takes another's place stands here too.
        chance: Which one it is.

    Attributes:
        kills: Those so far.
    """

    def __init__(self, members: list[Member], chance: Random) -> None:
        self._members = members
        self._chance = chance
        self.kills: list[Kill] = []

    async def work(self, *, seconds: float, every: float) -> None:
        """Kill one every so many seconds, for so long."""
        began = time.monotonic()
        for number in range(1, int(seconds / every) + 1):
            await asyncio.sleep(began + number * every - time.monotonic())
            await self._kill(self._chance.randrange(len(self._members)))

    async def _kill(self, place: int) -> None:
        victim = self._members[place]
        self.kills.append(Kill(victim.pid, time.time()))
        await victim.kill()
        self._members[place] = again = Member(victim.spec)
        await again.ready()
