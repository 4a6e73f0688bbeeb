"""Batches: what comes together is done together, and one's error is its own."""

from __future__ import annotations

import asyncio

import pytest
from psycopg import OperationalError
from psycopg_pool import PoolClosed

from adk_oban._batch import Batch


class Work:
    """Doubles numbers, one call at a time when `gate` is opened."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.errors: list[Exception] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items):
        self.calls.append(list(items))
        self.begun.set()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if -1 in items:
            raise ValueError("-1 cannot be done")
        return [2 * item for item in items]


@pytest.fixture
def work() -> Work:
    return Work()


async def together(batch: Batch, work: Work, items: list[int]) -> list:
    """Submit items that all come while another one is being done."""
    work.gate.clear()
    first = asyncio.create_task(batch.submit(0))
    await work.begun.wait()
    rest = [asyncio.create_task(batch.submit(item)) for item in items]
    await asyncio.sleep(0)
    work.gate.set()
    await first
    return await asyncio.gather(*rest, return_exceptions=True)


async def test_what_comes_alone_is_done_at_once(work):
    assert await Batch("b", work).submit(1) == 2
    assert work.calls == [[1]]


async def test_what_comes_meanwhile_is_done_together(work):
    assert await together(Batch("b", work), work, [1, 2, 3]) == [2, 4, 6]
    assert work.calls == [[0], [1, 2, 3]]


async def test_no_more_than_the_limit_is_done_together(work):
    assert await together(Batch("b", work, limit=2), work, [1, 2, 3]) == [2, 4, 6]
    assert work.calls == [[0], [1, 2], [3]]


async def test_an_error_is_told_only_to_its_cause(work):
    one, bad, other = await together(Batch("b", work), work, [1, -1, 2])
    assert (one, other) == (2, 4)
    assert isinstance(bad, ValueError)


async def test_who_was_cancelled_is_passed_over(work):
    batch = Batch("b", work)
    work.gate.clear()
    first = asyncio.create_task(batch.submit(1))
    await work.begun.wait()
    gone, there = (asyncio.create_task(batch.submit(n)) for n in (2, 3))
    await asyncio.sleep(0)
    gone.cancel()
    work.gate.set()
    assert [await first, await there] == [2, 6]
    assert work.calls == [[1], [3]]


async def test_it_tries_again_while_the_server_is_away(work):
    work.errors = [OperationalError("away")]
    assert await Batch("b", work).submit(1) == 2
    assert work.calls == [[1], [1]]


async def test_a_closed_pool_is_told_at_once(work):
    work.errors = [PoolClosed("closed")]
    with pytest.raises(PoolClosed):
        await Batch("b", work).submit(1)
    assert work.calls == [[1]]


async def test_it_works_again_after_an_error(work):
    batch = Batch("b", work)
    with pytest.raises(ValueError, match="cannot be done"):
        await batch.submit(-1)
    assert await batch.submit(1) == 2
