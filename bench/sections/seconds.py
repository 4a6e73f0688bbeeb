"""Agents whose model takes a second, in one process with 1,000 slots."""

from __future__ import annotations

from bench.measure import MEMORY, OURS, Bench
from bench.table import Row

_SLOTS = 1000


async def run(bench: Bench) -> list[Row]:
    """Compare ours with stock Oban and in-memory sessions."""
    found = {}
    for variant in (MEMORY, OURS):
        job = variant.job("one_second")
        found[variant] = await bench.measure(
            variant, job, bench.size(3000), slots=_SLOTS
        )
    bench.raw["seconds"] = {v.name: figures.raw() for v, figures in found.items()}
    return [
        Row.alone(
            "one-second agents/s, one process, 1,000 slots",
            f"{found[MEMORY].rate:.0f} jobs/s, nothing durable",
            found[OURS].rate,
            "jobs/s",
            least=400,
        )
    ]
