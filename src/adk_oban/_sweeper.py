"""Deletes results, the steps that led to them, and what else is left, in time."""

from __future__ import annotations

from datetime import timedelta

from ._fan_ins import FanIns
from ._leftovers import Leftovers
from ._loop import Loop
from ._results import Results
from ._steps import Steps

_BATCH = 10_000


class Sweeper(Loop):
    """Deletes old steps and results, some at a time.

    Args:
        results: Where results are.
        steps: Where steps are.
        result_ttl: How long a result is kept.
        step_ttl: How long a job's steps are kept when it has ended; no longer than its
            result.
        fan_ins: Where batches are, which are forgotten as results are.
        leftovers: What else jobs leave behind.
        interval: How many seconds pass between two sweeps (default 60).
    """

    def __init__(
        self,
        results: Results,
        steps: Steps,
        result_ttl: timedelta,
        step_ttl: timedelta,
        *,
        fan_ins: FanIns | None = None,
        leftovers: Leftovers | None = None,
        interval: float = 60.0,
    ) -> None:
        super().__init__("sweeper", interval=interval)
        self._results = results
        self._steps = steps
        self._fan_ins = fan_ins
        self._leftovers = leftovers
        self._result_ttl = result_ttl
        self._step_ttl = min(step_ttl, result_ttl)

    async def run_once(self) -> float | None:
        """Delete one batch of each; return 0 when there may be more."""
        deleted = [
            # Before the results, which say when jobs ended.
            await self._steps.prune(self._step_ttl, limit=_BATCH),
            await self._results.prune(self._result_ttl, limit=_BATCH),
        ]
        if self._fan_ins is not None:
            deleted.append(await self._fan_ins.prune(self._result_ttl, limit=_BATCH))
        if self._leftovers is not None:
            ttls = (self._result_ttl, self._step_ttl)
            deleted += await self._leftovers.prune(*ttls, limit=_BATCH)
        return 0 if _BATCH in deleted else None
