"""Runs the benchmark: `./dev bench [SECTION...]`, or `./dev bench profile`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench import machine, page
from bench.database import Server
from bench.measure import OURS, Bench
from bench.sections import SECTIONS
from bench.table import Row, render

PROFILE = "profile"


def main(arguments: list[str]) -> None:
    """Run what the arguments say."""
    asked = _parser().parse_args(arguments)
    if asked.sections == [PROFILE]:
        asyncio.run(_profile(asked.agent, asked.slots))
        return
    report, raw = asyncio.run(_run(asked.sections or list(SECTIONS), asked))
    print(f"\n{report}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(raw, indent=2) + "\n")
    if asked.write:
        page.write(report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", type=_section,
        help=f"{', '.join(SECTIONS)} (default: all), or {PROFILE}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--seed", type=int, default=1, help="of the soak (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw figures")
    parser.add_argument("--write", action="store_true", help=f"write {page.PAGE.name}")
    parser.add_argument("--agent", default="one_turn", help="what to profile")
    parser.add_argument("--slots", default=50, type=int, help="slots to profile with")
    return parser


def _section(name: str) -> str:
    if name != PROFILE and name not in SECTIONS:
        raise argparse.ArgumentTypeError(f"there is no section {name!r}")
    return name


async def _run(
    names: list[str], asked: argparse.Namespace
) -> tuple[str, dict[str, Any]]:
    rows: list[Row] = []
    async with Server() as server:
        about = machine.describe(server)
        bench = Bench(server, asked.quick, asked.seed)
        for name in names:
            began = time.monotonic()
            print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
            found = await SECTIONS[name](bench)
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
            print(f"{render(found)}\n", flush=True, file=sys.stderr)
            rows += found
    lines = [f"- {name}: {value}" for name, value in about.items()]
    if asked.quick:
        lines.append("- a smoke run: the figures mean little")
    return "\n".join([*lines, "", render(rows)]), {"about": about, **bench.raw}


async def _profile(agent: str, slots: int) -> None:
    """Print where the CPU of a worker of ours goes."""
    async with Server() as server:
        bench = Bench(server, quick=False)
        count = 500
        plain = await bench.measure(OURS, OURS.job(agent), count, slots=slots)
        figures = await bench.measure(
            OURS, OURS.job(agent), count, slots=slots, profiled=True
        )
    profile = figures.profile or {}
    print(profile["functions"])
    print(f"{plain.cpu:.2f} ms of CPU a job, {figures.cpu:.2f} ms under the profiler")
    print(f"PostgreSQL beside it: {plain.server_cpu} ms a job")
    print(
        "own time by package, builtins with their callers, shares of the first figure:"
    )
    packages: dict[str, float] = profile["packages"]
    for waiting in ("selectors", "multiprocessing"):
        packages.pop(waiting, None)
    total = sum(packages.values())
    for name, seconds in list(packages.items())[:25]:
        share = seconds / total
        print(f"  {name:<28} {share:6.1%} {share * plain.cpu:7.3f} ms a job")


if __name__ == "__main__":
    main(sys.argv[1:])
