"""Jobs that ask people, people who follow them, and workers that are killed."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

from bench.measure import Bench
from bench.soak import notes
from bench.soak.findings import Findings, Runs, find
from bench.soak.plan import Plan
from bench.soak.soak import Soak, Soaked
from bench.table import Row

_FAILURES = 50  # as many as are worth a look


async def run(bench: Bench) -> list[Row]:
    """Soak, and look at what is left."""
    plan = Plan.short(bench.seed) if bench.quick else Plan.full(bench.seed)
    async with bench.server.database() as database:
        await notes.create(database.conn)
        soaked = await Soak(plan, database).run()
        found = await find(soaked, database)
    bench.raw["soak"] = _raw(plan, soaked, found)
    return [
        *_jobs(plan, soaked, found),
        *_runs("tool calls", found.tools),
        *_runs("model calls", found.models),
        *_events(plan, soaked, found),
        *_waits(found),
    ]


def _raw(plan: Plan, soaked: Soaked, found: Findings) -> dict[str, Any]:
    return {
        "plan": asdict(plan),
        "seconds": soaked.seconds,
        "kills": len(soaked.kills),
        "cuts": soaked.cuts,
        "rivalries": soaked.desk.rivalries,
        **asdict(found),
        "failures": found.failures[:_FAILURES],
    }


def _jobs(plan: Plan, soaked: Soaked, found: Findings) -> list[Row]:
    kills, rivalries = len(soaked.kills), soaked.desk.rivalries
    return [
        Row.alone(
            f"soak: jobs with three approvals each that end rightly, {kills} kills",
            f"{plan.jobs} in {plan.seconds:g} s",
            found.right,
            "jobs",
            least=plan.jobs,
        ),
        _none(
            "- that end wrongly, or not at all", "", found.wrong + found.stuck, "jobs"
        ),
        _none("- that tell a step twice or not at all", "", found.retold, "jobs"),
        _none(
            "- questions that two answer at once, with both or no answer taken",
            f"{rivalries} asked so",
            found.misheard,
            "questions",
        ),
        Row.alone("- seconds until the last has ended", "", soaked.seconds, "s"),
    ]


def _runs(what: str, runs: Runs) -> list[Row]:
    return [
        Row.alone(f"- {what} made", f"{runs.expected} needed", runs.done, "calls"),
        _none(
            f"- {what} made again that no kill has cut off",
            f"{runs.cut_off} cut off, {runs.repeated} again",
            runs.needless,
            "calls",
        ),
    ]


def _events(plan: Plan, soaked: Soaked, found: Findings) -> list[Row]:
    returns = sum(follower.returns for follower in soaked.followers)
    times = f"{returns} returns, {soaked.cuts} cut connections"
    return [
        Row.alone(
            f"- events that {plan.followers} followers see",
            f"{found.there} there",
            found.seen,
            "events",
        ),
        _none("- events that a follower does not see", times, found.gaps, "events"),
        _none("- events that a follower sees twice", "", found.repeats, "events"),
        _none(
            "- events that a follower sees out of order", "", found.disorder, "events"
        ),
    ]


def _waits(found: Findings) -> list[Row]:
    taken = sorted(1000 * each for each in found.waits) or [float("nan")]
    p99 = taken[int(len(taken) * 0.99)]
    return [
        Row.alone(
            "- goes on after the answer, median", "", median(taken), "ms", most=100
        ),
        Row.alone("- goes on after the answer, p99", "", p99, "ms"),
    ]


def _none(what: str, reference: str, found: int, unit: str) -> Row:
    return Row.alone(what, reference, found, unit, most=0)
