"""Three tool calls, one after another: four model calls in all."""

from __future__ import annotations

from bench.measure import DATABASE, MEMORY, OURS, Bench
from bench.table import Row

_COUNTS = {DATABASE: 100, MEMORY: 400, OURS: 400}
_AGENT = "three_tools"


async def run(bench: Bench) -> list[Row]:
    """Compare ours with the bare ADK and with stock Oban."""
    bare = await bench.bare(_AGENT, bench.size(400))
    found = {
        variant: await bench.measure(variant, variant.job(_AGENT), bench.size(count))
        for variant, count in _COUNTS.items()
    }
    bench.raw["tools"] = {
        "bare": bare,
        **{variant.name: figures.raw() for variant, figures in found.items()},
    }
    ours = found[OURS]
    return [
        Row.compared(
            "jobs/s, three tools, against Oban + DatabaseSessionService",
            found[DATABASE].rate,
            ours.rate,
            "jobs/s",
        ),
        Row.compared(
            "jobs/s, three tools, against in-memory sessions, nothing durable",
            found[MEMORY].rate,
            ours.rate,
            "jobs/s",
        ),
        Row.compared(
            "CPU a job with three tools, against the bare in-memory run",
            bare["cpu_ms"],
            ours.cpu,
            "ms",
        ),
    ]
