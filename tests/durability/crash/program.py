"""The program: its arguments, a process for each kind, and the table."""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from adk_oban.embedded import EmbeddedPostgres

from . import exceptions, kills, outages, process
from .rig import Rig, rig
from .verdict import CRASHES, Reference, Verdict
from .warmup import warm_up
from .zoo import Kind, kinds

_COLUMNS = "{:<14} {:<14} {:>6} {:>6} {:>8} {:>11} {:>7}"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: a kind of agent in one mode."""

    kind: str
    mode: str
    verdicts: list[Verdict]
    seconds: float
    notes: list[str] = field(default_factory=list)

    @property
    def differing(self) -> list[Verdict]:
        """The points that were not clean."""
        return [verdict for verdict in self.verdicts if verdict.differences]

    def __str__(self) -> str:
        points, bad = len(self.verdicts), len(self.differing)
        doubled = sum(verdict.doubled for verdict in self.verdicts)
        return _COLUMNS.format(
            *(self.kind, self.mode, points, points - bad, doubled, bad),
            f"{self.seconds:.1f} s",
        )


def main() -> int:
    """Run it; return 1 when there was any difference."""
    given = _arguments()
    logging.disable(logging.CRITICAL)  # each crash would log its traceback
    warnings.simplefilter("ignore")
    known = kinds()
    chosen = [known[name] for name in given.kinds or known]
    print(
        _COLUMNS.format("kind", "mode", "points", "clean", "doubled", "differences", "")
    )
    bad = 0
    with (
        _server(given.dsn) as dsn,
        tempfile.TemporaryDirectory(prefix="adk-oban-crash-") as folder,
    ):
        warm_up(chosen)
        for line in _lines(chosen, given, dsn, Path(folder)):
            print(line, flush=True)
            for verdict in line.differing[: given.show]:
                bad += 1
                print(f"    {verdict.point}")
                for difference in verdict.differences[:4]:
                    print(f"      - {difference}", flush=True)
            for note in line.notes:
                bad += 1
                print(f"    {note}", flush=True)
    return 1 if bad else 0


@contextmanager
def _server(dsn: str | None) -> Iterator[str]:
    if dsn is not None:
        yield dsn
        return
    with EmbeddedPostgres() as server:
        yield server.dsn


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("crash", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(kinds()))
    parser.add_argument("--points", type=int, help="at most so many for each kind")
    parser.add_argument(
        "--mode", choices=[*CRASHES, *outages.MODES], help="only this one"
    )
    parser.add_argument("--at", type=int, help="only the point of this number")
    parser.add_argument("--show", type=int, default=2, help="how many to tell of")
    parser.add_argument("--dsn", help="of a server that runs (default: a new one)")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 1)
    return parser.parse_args()


def _lines(
    chosen: list[Kind], given: argparse.Namespace, dsn: str, folder: Path
) -> Iterator[Line]:
    """Run each kind in a process of its own, some at once."""
    waiting: list[tuple[Kind, tuple[str, ...]]] = [
        *((kind, (mode,)) for kind in chosen for mode in outages.MODES if kind.outages),
        *((kind, CRASHES) for kind in chosen),
    ]
    running: dict[int, tuple[str, Path]] = {}
    while waiting or running:
        while waiting and len(running) < given.jobs:
            kind, modes = waiting.pop(0)
            asked = [mode for mode in modes if given.mode in (None, mode)]
            if not asked:
                continue
            home = folder / f"{kind.name}-{len(waiting)}"
            home.mkdir(mode=0o755)
            run = partial(_run, kind, asked, given, dsn, home)
            running[process.fork(run, home)] = kind.name, home
        if not running:
            return
        pid, status = os.wait()
        name, home = running.pop(pid)
        if status:
            yield Line(name, "", [], 0, [process.output(home)])
        else:
            yield from pickle.loads((home / "lines").read_bytes())


def _run(
    kind: Kind, modes: list[str], given: argparse.Namespace, dsn: str, home: Path
) -> None:
    with rig(dsn, f"crash_{os.getpid()}", home / "rig") as place:
        reference = process.answer(
            lambda: exceptions.reference(kind, place), place.folder
        )
        lines = [_line(kind, mode, given, place, reference) for mode in modes]
    lines[0].notes.extend(reference.halves[:1])
    (home / "lines").write_bytes(pickle.dumps(lines))


def _line(
    kind: Kind, mode: str, given: argparse.Namespace, place: Rig, reference: Reference
) -> Line:
    began = time.monotonic()
    numbers = chosen_points(kind, mode, reference, given.points)
    if given.at is not None:
        numbers = [given.at]
    match mode:
        case "SIGKILL":
            verdicts = kills.crash(kind, place, reference, numbers)
        case "exception":
            verdicts = process.answer(
                lambda: exceptions.crash(kind, place, reference, numbers), place.folder
            )
        case _:
            verdicts = outages.disturb(kind, mode, place, reference, numbers)
    return Line(kind.name, mode, verdicts, time.monotonic() - began)


def chosen_points(
    kind: Kind, mode: str, reference: Reference, most: int | None
) -> list[int]:
    """Return the numbers of the points to crash at, evenly spread."""
    if mode in outages.MODES:
        numbers = outages.chosen_points(reference)
    else:
        swallowed = kind.swallows if mode == "exception" else ()
        numbers = [
            number
            for number, label in enumerate(reference.points)
            if not any(part in label for part in swallowed)
        ]
    if most is None or most >= len(numbers):
        return numbers
    return sorted({numbers[n * len(numbers) // most] for n in range(most)})
