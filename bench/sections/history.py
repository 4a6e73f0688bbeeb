"""A turn in a session of 1,000 events, one job at a time."""

from __future__ import annotations

from statistics import median

from bench.database import Database
from bench.measure import DATABASE, OURS, Bench
from bench.table import Row
from bench.worker import fill_session

_AGENT = "one_turn"


async def run(bench: Bench) -> list[Row]:
    """Compare an attempt's duration with the bare run's on the same session."""
    count, events = (5, 100) if bench.quick else (30, 1000)

    async def prepare(database: Database) -> None:
        await fill_session(database.dsn, "user", "seed", events)
        await database.copy_session("bench", count)

    bare = await bench.bare(_AGENT, count, events=events)
    found = {
        variant: await bench.measure(
            variant, variant.job(_AGENT, exists=True), count, slots=1, prepare=prepare
        )
        for variant in (DATABASE, OURS)
    }
    bench.raw["history"] = {
        "events": events,
        "bare": bare,
        **{variant.name: figures.raw() for variant, figures in found.items()},
    }
    what = f"a run in a session of {events:,} events, against the bare in-memory run"
    return [
        Row.compared(what, bare["run_ms"], median(found[OURS].took), "ms", most=1.5),
        Row.compared(
            "the same of Oban + DatabaseSessionService, for comparison",
            bare["run_ms"],
            median(found[DATABASE].took),
            "ms",
        ),
    ]
