"""Enqueueing 1,000 jobs at once, with Oban's own `enqueue_many`."""

from __future__ import annotations

from statistics import median

from bench.crew import crew
from bench.measure import NOOP, OUR_NOOP, Bench, Variant
from bench.table import Row
from bench.worker import Spec

_JOBS = 1000


async def run(bench: Bench) -> list[Row]:
    """Compare `AdkOban.oban` with a plain Oban, each in a process of its own."""
    stock, ours = await _rates(bench, NOOP), await _rates(bench, OUR_NOOP)
    bench.raw["bulk"] = {NOOP.name: stock, OUR_NOOP.name: ours}
    return [
        Row.compared(
            f"enqueueing {_JOBS:,} jobs at once, against stock Oban",
            median(stock),
            median(ours),
            "jobs/s",
            least=8,
        )
    ]


async def _rates(bench: Bench, variant: Variant) -> list[float]:
    async with (
        bench.server.database() as database,
        crew(Spec(database.dsn, variant.kind)) as (member,),
    ):
        rates = []
        for _ in range(1 + 2 * bench.rounds):
            told = await member.ask("enqueue", count=_JOBS)
            rates.append(_JOBS / told["took"])
        return rates[1:]
