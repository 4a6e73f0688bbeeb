"""Deletes results that have been kept long enough."""

from __future__ import annotations

from datetime import timedelta

from ._loop import Loop
from ._results import Results

_BATCH = 10_000


class Sweeper(Loop):
    """Deletes old results, a batch at a time.

    Args:
        results: Where they are.
        max_age: How long a result is kept.
        interval: How many seconds pass between two sweeps (default 60).
    """

    def __init__(
        self, results: Results, max_age: timedelta, *, interval: float = 60.0
    ) -> None:
        super().__init__("sweeper", interval=interval)
        self._results = results
        self._max_age = max_age

    async def run_once(self) -> float | None:
        """Delete one batch; return 0 when there may be more."""
        deleted = await self._results.prune(self._max_age, limit=_BATCH)
        return 0 if deleted == _BATCH else None
