"""`adk-oban cancel`: stops jobs, wherever they run."""

from __future__ import annotations

import click

from adk_oban._filter import Filters
from adk_oban.errors import AdkObanError
from adk_oban.jobs import AgentJob
from adk_oban.runtime import AdkOban

from . import _show
from ._command import Failure, as_json, client, command, database_options
from ._filters import check_either, filters


@click.command()
@click.argument("job_ids", type=int, metavar="[JOB...]", nargs=-1)
@click.option("--keep", "keep", flag_value=True, help="What they have done stays.")
@click.option("--discard", "keep", flag_value=False, help="They leave no trace.")
@click.option("--reason", metavar="TEXT", help="Why, for people.")
@database_options
@as_json
@command
@filters
async def cancel(
    job_ids: tuple[int, ...],
    filters: Filters,
    keep: bool | None,
    reason: str | None,
    dsn: str | None,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Cancel each JOB: one that waits ends, one that runs is stopped at once.

    Instead of JOBs, options name all of those that they find.

    Without --keep or --discard, each does with its part of the session as it was told
    when it was enqueued.
    """
    cancelled: list[AgentJob] = []
    refused: list[str] = []
    check_either(job_ids, filters)
    async with client(dsn, prefix) as running:
        if filters:
            count = await running.cancel_jobs(reason=reason, keep=keep, **filters)
            _show.count("cancelled", count, as_json=as_json)
            return
        for job_id in job_ids:
            try:
                job = await _job(running, job_id)
                cancelled.append(await job.cancel(reason=reason, keep=keep))
            except (AdkObanError, ValueError) as error:
                refused.append(str(error))
    if cancelled:
        _show.jobs(cancelled, as_json=as_json)
    if refused:
        raise Failure("\n".join(refused))


async def _job(running: AdkOban, job_id: int) -> AgentJob:
    job = await running.get_job(job_id)
    if job is None:
        raise ValueError(f"no job {job_id}")
    return job
