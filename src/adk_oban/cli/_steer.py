"""`adk-oban retry` and `fork`: once more, from what jobs have recorded."""

from __future__ import annotations

import click

from adk_oban._filter import Filters
from adk_oban.errors import AdkObanError
from adk_oban.jobs import AgentJob
from adk_oban.runtime import AdkOban

from . import _follow, _show
from ._command import Failure, as_json, client, command, database_options
from ._filters import check_either, filters


@click.command()
@click.argument("job_ids", type=int, metavar="[JOB...]", nargs=-1)
@database_options
@as_json
@command
@filters
async def retry(
    job_ids: tuple[int, ...],
    filters: Filters,
    dsn: str | None,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Let each JOB go on at once that was discarded or cancelled, or waits to.

    Nothing that it recorded is done again. Instead of JOBs, options name all of those
    that they find.
    """
    retried: list[AgentJob] = []
    refused: list[str] = []
    check_either(job_ids, filters)
    async with client(dsn, prefix) as running:
        if filters:
            count = await running.retry_jobs(**filters)
            _show.count("retried", count, as_json=as_json)
            return
        for job_id in job_ids:
            try:
                job = await _job(running, job_id)
                retried.append(await job.retry())
            except (AdkObanError, ValueError) as error:
                refused.append(str(error))
    if retried:
        _show.jobs(retried, as_json=as_json)
    if refused:
        raise Failure("\n".join(refused))


@click.command()
@click.argument("job_id", type=int, metavar="JOB")
@click.option("--after-step", type=int, help="The last step that counts; 0: none.")
@click.option("--message", help="What follows on it (default: the same again).")
@click.option("--session", help="ADK's id of the copy (default: a new one).")
@click.option("--queue", help="Default: the job's own.")
@click.option("--follow", is_flag=True, help="Print what happens, until it has ended.")
@database_options
@as_json
@command
async def fork(
    job_id: int,
    after_step: int | None,
    message: str | None,
    session: str | None,
    queue: str | None,
    follow: bool,
    dsn: str | None,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Enqueue a job on a copy of JOB's session, as of a step of JOB.

    Without --message it is asked the same again, and its steps up to --after-step
    (default: all of them) are answered as they were, at no cost.
    """
    async with client(dsn, prefix) as running:
        job = await _job(running, job_id)
        forked = await job.fork(
            after_step=after_step,
            message=message,
            session_id=session,
            queue=queue or job.queue,
        )
        if follow:
            await _follow.watch_to_end(running, forked.id, as_json=as_json)
            return
    _show.job(forked, as_json=as_json)


async def _job(running: AdkOban, job_id: int) -> AgentJob:
    job = await running.get_job(job_id)
    if job is None:
        raise ValueError(f"no job {job_id}")
    return job
