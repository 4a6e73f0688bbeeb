"""Those who follow jobs, go away, are cut off, and come back with their cursor."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from psycopg.errors import Error

from adk_oban import AdkOban

_LATE_SECONDS = 3.0
_AWAY_SECONDS = 0.5
_PATIENCE = (1, 12)  # events until a follower goes away


class Follower:
    """Follows some jobs at once, each to its end.

    Args:
        jobs: Where.
        chance: When it goes away, and for how long.

    Attributes:
        seen: The cursors that it saw of each job, by the job's id.
        returns: How often it came back with a cursor.
    """

    def __init__(self, jobs: AdkOban, chance: Random) -> None:
        self._jobs = jobs
        self._chance = chance
        self.seen: dict[int, list[str | None]] = {}
        self.returns = 0

    async def follow(self, job_id: int) -> None:
        """Follow a job, maybe from after its start, until it has ended."""
        seen = self.seen.setdefault(job_id, [])
        await asyncio.sleep(self._chance.uniform(0, _LATE_SECONDS))
        while not await self._look(job_id, seen):
            self.returns += 1
            await asyncio.sleep(self._chance.uniform(0, _AWAY_SECONDS))

    async def _look(self, job_id: int, seen: list[str | None]) -> bool:
        """See some more; return whether that was the end."""
        patience = self._chance.randint(*_PATIENCE)
        after = seen[-1] if seen else None
        try:
            events = self._jobs.events(job_id, after=after)
            async with aclosing(events):
                async for event in events:
                    seen.append(event.cursor)
                    patience -= 1
                    if event.is_outcome or not patience:
                        return event.is_outcome
        except (Error, OSError):
            return False  # the connection was cut
        raise RuntimeError(f"the events of job {job_id} ended without an outcome")


@dataclass(frozen=True, slots=True)
class Amiss:
    """What is wrong with what a follower saw of a job.

    Attributes:
        gaps: Events that it did not see.
        repeats: Events that it saw once more.
        disorder: Events that it saw after a later one.
    """

    gaps: int
    repeats: int
    disorder: int

    @classmethod
    def of(cls, seen: Sequence[str | None], there: Sequence[str]) -> Amiss:
        """Compare what was seen with all that is there, in order."""
        places = {cursor: place for place, cursor in enumerate(there)}
        # What is not there at all counts as a repeat of something.
        known = [places[cursor] for cursor in seen if cursor in places]
        times = Counter(known)
        return cls(
            gaps=len(there) - len(times),
            repeats=len(seen) - len(times),
            disorder=sum(later < earlier for earlier, later in pairwise(known)),
        )
