"""The order in which recorded steps are replayed: that in which they were recorded.

Agents that run side by side add their events to one session as they come. A replay has
them all at once; in another order, whoever reads the session next would ask the model
something that was never asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

# Turns of the event loop: that another agent gets to reach its next step, and that the
# events of one take on their way into the session. ADK needs some ten of them.
_PATIENCE = 500
_WAY = 50
# Seconds that an attempt waits in all for agents that do something else in between.
_BUDGET = 2.0
_PAUSE = 0.005


class ReplayOrder:
    """Lets replayed steps of different branches go one after another.

    Args:
        steps: The numbers and branches of the recorded steps.
    """

    def __init__(self, steps: Iterable[tuple[int, str]]) -> None:
        self._ahead = dict(sorted(steps))
        self._branch: str | None = None
        self._left = _BUDGET
        self._lock = asyncio.Lock()

    async def wait(self, step_id: int, branch: str) -> None:
        """Wait until it is a step's turn.

        Within a branch, steps come in their order by themselves. Steps of others that
        nobody asks for, since what led to them has changed, are waited for once, and
        not for long.

        Args:
            step_id: The step's number.
            branch: Its branch.
        """
        clock = asyncio.get_running_loop().time
        began, turns = clock(), 0
        while self._others_before(step_id, branch):
            turns += 1
            if turns > _PATIENCE and clock() - began > self._left:
                break
            await asyncio.sleep(0 if turns <= _PATIENCE else _PAUSE)
        if turns > _PATIENCE:
            self._left = max(0.0, self._left - (clock() - began))
        for other in self._others_before(step_id, branch):
            del self._ahead[other]
        await self.follow(branch)
        for passed in [i for i in self._ahead if i <= step_id]:
            if self._ahead[passed] == branch:
                del self._ahead[passed]

    async def follow(self, branch: str) -> None:
        """Let the events of the step before it, in another branch, go first."""
        async with self._lock:
            if self._branch not in (None, branch):
                for _ in range(_WAY):
                    await asyncio.sleep(0)
            self._branch = branch

    def _others_before(self, step_id: int, branch: str) -> list[int]:
        found = []
        for other, its in self._ahead.items():
            if other >= step_id:
                break
            if its != branch:
                found.append(other)
        return found
