"""The first job of a fresh worker against its tenth."""

from __future__ import annotations

from statistics import median

from bench.measure import MEMORY, OURS, Bench, Variant
from bench.table import Row


async def run(bench: Bench) -> list[Row]:
    """Compare ours with itself, and show stock Oban's beside it."""
    stock, ours = await _first(bench, MEMORY), await _first(bench, OURS)
    bench.raw["first"] = {MEMORY.name: stock, OURS.name: ours}
    ratio = median(first / tenth for first, tenth in ours)
    by_hand = median(first / tenth for first, tenth in stock)
    return [
        Row.alone(
            "first job of a fresh worker against the tenth",
            f"{by_hand:.0f} times ({median(first for first, _ in stock):.0f} ms)",
            ratio,
            "times",
            most=2,
        )
    ]


async def _first(bench: Bench, variant: Variant) -> list[tuple[float, float]]:
    """Return the first and about the tenth attempt's milliseconds, of a few workers."""
    pairs = []
    for _ in range(bench.rounds):
        job = variant.job("one_turn")
        took = (await bench.measure(variant, job, 15, slots=1, warm=0)).took
        pairs.append((took[0], median(took[7:13])))
    return pairs
