"""Round trips and transactions a job, Oban's own apart, one job at a time.

One at a time, since what jobs share when many run would make them look cheaper.
"""

from __future__ import annotations

from bench.measure import DATABASE, NOOP, OUR_NOOP, OURS, Bench, Figures
from bench.table import Row

_FURTHER_STEPS = 6  # three tools: three more model calls, three tool calls
_IDLE = 2.0  # seconds of watching, to know what is sent without jobs


async def run(bench: Bench) -> list[Row]:
    """Count them for no-op jobs, one turn, and three tools."""
    count, idle = bench.size(120), 0.3 if bench.quick else _IDLE
    found: dict[str, Figures] = {}
    for variant, agent in (
        (NOOP, ""),
        (OUR_NOOP, ""),
        (DATABASE, "one_turn"),
        (OURS, "one_turn"),
        (DATABASE, "three_tools"),
        (OURS, "three_tools"),
    ):
        found[f"{variant.name} {agent}".strip()] = await bench.measure(
            variant, variant.job(agent), count, slots=1, counted=True, idle=idle
        )
    bench.raw["trips"] = {name: figures.raw() for name, figures in found.items()}
    own, our_own = found[NOOP.name], found[OUR_NOOP.name]
    by_hand, ours = found[f"{DATABASE.name} one_turn"], found["ours one_turn"]
    step = (found["ours three_tools"].trips - ours.trips) / _FURTHER_STEPS
    step_by_hand = found[f"{DATABASE.name} three_tools"].trips - by_hand.trips
    return [
        Row.alone(
            "round trips of one turn, Oban's own apart",
            f"{by_hand.trips - own.trips:.1f} trips",
            round(ours.trips - our_own.trips, 1),
            "trips",
            most=3,
        ),
        Row.alone(
            "round trips of a further step",
            f"{step_by_hand / _FURTHER_STEPS:.1f} trips",
            round(step, 1),
            "trips",
            most=1,
        ),
        Row.alone(
            "round trips of a job of one turn in all, Oban's own included",
            f"{by_hand.trips:.1f} trips",
            ours.trips,
            "trips",
        ),
        Row.alone(
            "Oban's own round trips, of a job that does nothing",
            f"{own.trips:.1f} trips",
            our_own.trips,
            "trips",
        ),
        Row.alone(
            "transactions of one turn, Oban's own apart",
            f"{by_hand.transactions - own.transactions:.1f}",
            ours.transactions - our_own.transactions,
            "",
        ),
    ]
