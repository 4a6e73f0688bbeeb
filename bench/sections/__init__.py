"""The sections of the benchmark, in the order of the table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bench.measure import Bench
from bench.sections import (
    bulk,
    first,
    history,
    listing,
    memory,
    noop,
    pickup,
    recovery,
    replay,
    seconds,
    soak,
    tools,
    trips,
    turn,
)
from bench.table import Row

type Section = Callable[[Bench], Awaitable[list[Row]]]

SECTIONS: dict[str, Section] = {
    "turn": turn.run,
    "tools": tools.run,
    "trips": trips.run,
    "history": history.run,
    "memory": memory.run,
    "seconds": seconds.run,
    "pickup": pickup.run,
    "noop": noop.run,
    "bulk": bulk.run,
    "first": first.run,
    "recovery": recovery.run,
    "listing": listing.run,
    "replay": replay.run,
    "soak": soak.run,
}
