"""How long a soak takes, and how much happens in it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in a soak.

    Attributes:
        seconds: For how long workers are killed and jobs come.
        jobs: How many jobs.
        followers: How many follow some of them.
        follows: How many jobs each of these follows.
        kill_every: Seconds between kills.
        cut_every: Seconds between cuts of the followers' connections.
        seed: What all chance is drawn with.
    """

    seconds: float
    jobs: int
    followers: int
    follows: int
    kill_every: float
    cut_every: float
    seed: int

    @classmethod
    def full(cls, seed: int) -> Plan:
        """The two minutes that it is meant for."""
        return cls(120, 500, 100, 20, kill_every=5, cut_every=7, seed=seed)

    @classmethod
    def short(cls, seed: int) -> Plan:
        """A smoke run."""
        return cls(12, 40, 20, 8, kill_every=3, cut_every=4, seed=seed)

    def chance(self, of: str) -> Random:
        """Return a generator that depends on the seed and a name."""
        return Random(f"{self.seed} {of}")  # noqa: S311

    def arrivals(self) -> list[float]:
        """Return when each job is enqueued, in seconds after the start."""
        chance = self.chance("arrivals")
        return sorted(chance.uniform(0, self.seconds) for _ in range(self.jobs))

    def followed(self) -> list[list[int]]:
        """Return which followers each job has, as their numbers."""
        chance = self.chance("followed")
        by_job: list[list[int]] = [[] for _ in range(self.jobs)]
        for follower in range(self.followers):
            for job in chance.sample(range(self.jobs), self.follows):
                by_job[job].append(follower)
        return by_job
