"""The same work for many jobs at once: one statement, one commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context

from psycopg import Error, OperationalError
from psycopg_pool import PoolClosed, PoolTimeout

# How long a server may be away before those who wait for it are told.
_PATIENCE = 60.0
_PAUSE = 0.2
_MOST_BYTES = 32_000_000
# PostgreSQL's classes of broken connections and of conflicts between transactions; then
# a server that shuts down or starts, has no connection left, or is still a standby.
_PASSING_CLASSES = ("08", "40")
_PASSING = ("57P01", "57P02", "57P03", "53300", "25006")

logger = logging.getLogger(__name__)


class Batch[Item, Result]:
    """Collects what arrives while it works, and does that together next.

    One that comes alone is done at once; a thousand that come together share a few
    commits. While the server is away it tries again, for a minute: the work must be
    such that doing it twice is doing it once.

    Args:
        part: What it is, for the task's name: `adk-oban-<part>`.
        work: Does it for a list, and returns a result for each.
        limit: How many are done at once at most.
        weigh: Says how many bytes an item has, roughly; no more than 32 MB are done at
            once, but for one that is larger by itself.
    """

    def __init__(
        self,
        part: str,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        limit: int = 200,
        weigh: Callable[[Item], int] | None = None,
    ) -> None:
        self._part = part
        self._do = work
        self._limit = limit
        self._weigh = weigh
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """Have it done, and return its result.

        Raises:
            Exception: What the work raised, for this item alone if it was the cause.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(
                self._work(),
                name=f"adk-oban-{self._part}",
                context=Context(),  # not that of the job which happens to be first
            )
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                count = self._fitting()
                taken = self._waiting[:count]
                del self._waiting[:count]
                # Whoever was cancelled meanwhile no longer wants it.
                await self._settle([each for each in taken if not each[1].done()])
        finally:
            self._task = None

    def _fitting(self) -> int:
        if self._weigh is None:
            return self._limit
        weight = 0
        for count, (item, _) in enumerate(self._waiting[: self._limit]):
            weight += self._weigh(item)
            if weight > _MOST_BYTES:
                return max(1, count)
        return self._limit

    async def _settle(self, taken: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        if not taken:
            return
        try:
            results = await self._persist([item for item, _ in taken])
        except Exception as error:
            if len(taken) == 1 or passes(error):
                for _, future in taken:
                    _tell(future, error)
                return
            # One of them is the cause; the others must not suffer for it.
            for each in taken:
                await self._settle([each])
            return
        for (_, future), result in zip(taken, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def _persist(self, items: Sequence[Item]) -> Sequence[Result]:
        clock = asyncio.get_running_loop().time
        deadline = clock() + _PATIENCE
        while True:
            try:
                return await self._do(items)
            except Exception as error:
                if not passes(error) or clock() > deadline:
                    raise
                logger.warning("%s: %s; trying again", self._part, error)
                await asyncio.sleep(_PAUSE)


def passes(error: Exception) -> bool:
    """Return whether an error says that the server is away, or busy, for a while."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, Error) or isinstance(error, PoolClosed):
        return False
    state = error.sqlstate
    if state is None:
        return isinstance(error, OperationalError)
    return state[:2] in _PASSING_CLASSES or state in _PASSING


def _tell[Result](future: asyncio.Future[Result], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
