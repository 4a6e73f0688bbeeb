"""`adk-oban decide`: what happened to a tool that runs once."""

from __future__ import annotations

import json
from typing import Any

import click

from adk_oban.jobs import AgentJob

from . import _show
from ._command import Failure, as_json, client, command, database_options


@click.command()
@click.argument("job_id", type=int, metavar="JOB")
@click.argument("step_id", type=int, metavar="[STEP]", required=False)
@click.option("--again", is_flag=True, help="It did not happen: run it again.")
@click.option("--result", help="It happened: what it returned, as JSON.")
@click.option("--fail", metavar="REASON", help="Give the job up.")
@database_options
@as_json
@command
async def decide(
    job_id: int,
    step_id: int | None,
    again: bool,
    result: str | None,
    fail: str | None,
    dsn: str | None,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Say what happened to a tool call of JOB that runs once; or list those open.

    A tool that is marked @once is not run a second time by itself: when its process
    died in the middle, or it raised an error, its job waits for this. STEP may be left
    out where only one is open.
    """
    async with client(dsn, prefix) as running:
        job = await running.get_job(job_id)
        if job is None:
            raise Failure(f"no job {job_id}")
        if not (again or result is not None or fail is not None):
            _show.undecided(await job.undecided(), as_json=as_json)
            return
        step = step_id if step_id is not None else await _only_step(job)
        await job.decide(step, again=again, result=_value(result), fail=fail)
        _show.job(await job.reload(), as_json=as_json)


async def _only_step(job: AgentJob) -> int:
    steps = await job.undecided()
    if len(steps) != 1:
        raise Failure(
            f"job {job.id} has {len(steps)} undecided steps; name one: "
            f"{[step.id for step in steps]!r}"
        )
    return steps[0].id


def _value(text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--result is not valid JSON ({error}): {text!r}") from None
    if value is None:
        raise ValueError(
            "--result must not be null; say {} for a tool without a result"
        )
    return value
