"""One turn without tools: jobs a second and CPU a job."""

from __future__ import annotations

from statistics import median

from bench.measure import DATABASE, MEMORY, OURS, Bench, Figures, Variant, middle
from bench.table import Row

_COUNTS = {DATABASE: 200, MEMORY: 1000, OURS: 1000}
_AGENT = "one_turn"

type Found = dict[tuple[Variant, int], list[Figures]]


async def run(bench: Bench) -> list[Row]:
    """Compare ours with the bare ADK and with stock Oban, by turns."""
    found: Found = {}
    bare, lean = [], []
    for _ in range(bench.rounds):
        bare.append(await bench.bare(_AGENT, bench.size(1000)))
        lean.append(await bench.bare(_AGENT, bench.size(1000), lean=True))
        for processes in (1, 2):
            for variant, count in _COUNTS.items():
                job, count = variant.job(_AGENT), bench.size(count * processes)
                figures = await bench.measure(variant, job, count, processes=processes)
                found.setdefault((variant, processes), []).append(figures)
    bench.raw["turn"] = {"bare": bare, "bare, lean": lean}
    for (variant, processes), rounds in found.items():
        name = f"{variant.name}, {processes} process{'es' * (processes > 1)}"
        bench.raw["turn"][name] = [one.raw() for one in rounds]
    cpus = (median(one["cpu_ms"] for one in rounds) for rounds in (bare, lean))
    return [*_rates(found), *_cpus(found, *cpus)]


def _rates(found: Found) -> list[Row]:
    database, memory = "DatabaseSessionService", "in-memory sessions, nothing durable"
    rows = []
    for reference, name, processes, least in (
        (DATABASE, database, 1, 5),
        (DATABASE, database, 2, 4),
        (MEMORY, memory, 1, 0.7),
        (MEMORY, memory, 2, None),
    ):
        how = "one process" if processes == 1 else "two processes"
        what = f"one turn, {how}, against Oban with {name}"
        theirs = middle(found[reference, processes], "rate")
        ours = middle(found[OURS, processes], "rate")
        rows.append(Row.compared(what, theirs, ours, "jobs/s", least=least))
    return rows


def _cpus(found: Found, bare: float, lean: float) -> list[Row]:
    ours, by_hand, in_memory = (
        middle(found[variant, 1], "cpu") for variant in (OURS, DATABASE, MEMORY)
    )
    what = "CPU of one turn, against the bare in-memory run"
    rows = [
        Row.compared(what, bare, ours, "ms", most=1.6),
        Row.compared("- against one without ADK's failing import", lean, ours, "ms"),
        Row.compared(f"- of Oban with {DATABASE.sessions}", bare, by_hand, "ms"),
        Row.compared(f"- of Oban with {MEMORY.sessions}", bare, in_memory, "ms"),
    ]
    if found[OURS, 1][0].server_cpu is not None:
        what = "PostgreSQL's CPU of one turn, against Oban with DatabaseSessionService"
        theirs = middle(found[DATABASE, 1], "server_cpu")
        own = middle(found[OURS, 1], "server_cpu")
        rows.append(Row.compared(what, theirs, own, "ms"))
    return rows
