"""Jobs that do nothing, at 50 slots: what Oban itself takes, and ours around it."""

from __future__ import annotations

from bench.measure import NOOP, OUR_NOOP, Bench, Figures, middle
from bench.table import Row


async def run(bench: Bench) -> list[Row]:
    """Compare the same worker on AdkOban and on a plain Oban."""
    found: dict[str, list[Figures]] = {NOOP.name: [], OUR_NOOP.name: []}
    for _ in range(bench.rounds):
        for variant in (NOOP, OUR_NOOP):
            job = variant.job("")
            found[variant.name].append(
                await bench.measure(variant, job, bench.size(3000))
            )
    bench.raw["noop"] = {
        name: [one.raw() for one in rounds] for name, rounds in found.items()
    }
    return [
        Row.compared(
            "executing no-op jobs at 50 slots, against stock Oban",
            middle(found[NOOP.name], "rate"),
            middle(found[OUR_NOOP.name], "rate"),
            "jobs/s",
            least=2,
        )
    ]
