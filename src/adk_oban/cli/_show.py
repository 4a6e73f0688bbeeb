"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from adk_oban._schedules import StoredSchedule
from adk_oban.approvals import Approval
from adk_oban.jobs import AgentJob, UndecidedStep
from adk_oban.pages import JobPage
from adk_oban.results import AgentResult
from adk_oban.schema import Applied, Migration
from adk_oban.status import JobStatus, JobStep

from ._terminal import say, visible


def migrations(applied: Sequence[Applied], *, as_json: bool) -> None:
    """Show which migrations there are."""
    rows = [asdict(migration) for migration in applied]
    if not rows and not as_json:
        click.echo("not migrated; run: adk-oban migrate up")
        return
    _print(rows, ["version", "name", "applied_at"], as_json=as_json)


def steps(done: str, migrations: Sequence[Migration], *, as_json: bool) -> None:
    """Show which migrations were applied, or taken back."""
    if as_json:
        _json([{"version": m.version, "name": m.name} for m in migrations])
        return
    names = ", ".join(f"{m.version} {m.name}" for m in migrations)
    click.echo(f"{done} {names}" if migrations else "nothing to do")


def dsn(dsn: str, *, as_json: bool) -> None:
    """Show where a server is, in one line, since it goes on running."""
    click.echo(json.dumps({"dsn": dsn}) if as_json else dsn)


def job(job: AgentJob, *, as_json: bool) -> None:
    """Show that a job was enqueued."""
    if as_json:
        _json(job_row(job))
        return
    click.echo(f"job {job.id} is {job.state} in queue {job.queue}")


def answer(result: AgentResult, *, as_json: bool) -> None:
    """Show what a job answered."""
    if as_json:
        _json(result_row(result))
        return
    say(result.text)


def jobs(found: Sequence[AgentJob], *, as_json: bool) -> None:
    """Show a list of jobs."""
    columns = ["id", "state", "queue", "agent", "attempt", "scheduled_at", "message"]
    _print([job_row(job) for job in found], columns, as_json=as_json)


def count(done: str, count: int, *, as_json: bool) -> None:
    """Show what was done with how many jobs."""
    if as_json:
        _json({"count": count})
        return
    click.echo(f"{done} {count} job{'' if count == 1 else 's'}")


def page(page: JobPage, *, as_json: bool) -> None:
    """Show a page of jobs, and where the next one begins."""
    if as_json:
        _json(page.to_json())
        return
    jobs(page.jobs, as_json=False)
    if page.next:
        click.echo(f"more: --after {page.next}")


def whole_job(
    job: AgentJob | None,
    status: JobStatus,
    steps: Sequence[JobStep],
    asked: Sequence[Approval],
    result: AgentResult | Exception | None,
    *,
    as_json: bool,
) -> None:
    """Show all there is of a job; the job itself and its result may be gone."""
    shown: dict[str, Any] = {} if job is None else job_row(job)
    shown["status"] = status.to_json()
    shown["steps"] = [step.to_json() for step in steps]
    shown["approvals"] = [asdict(one) for one in asked]
    match result:
        case AgentResult():
            shown["result"] = result_row(result)
        case Exception():
            shown["error"] = str(result)
    if as_json:
        _json(shown)
        return
    _fields({"job": status.job_id, **_standing(status), **_enqueued(job)})
    if steps:
        click.echo("\nsteps")
        columns = ["position", "kind", "name", "agent", "ms", "tokens", "source"]
        _print([_step_row(step) for step in steps], columns, as_json=False)
    if asked:
        click.echo("\napprovals")
        approvals(asked, as_json=False)
    if isinstance(result, AgentResult):
        click.echo("\nresult")
        _fields({k: v for k, v in result_row(result).items() if k not in _TOLD})


# What `show` has told of a job before it comes to its result.
_TOLD = ("job_id", "app_name", "user_id", "session_id", "attempts")


def _standing(status: JobStatus) -> dict[str, Any]:
    """Return what people want to know of a status, in their words."""
    most = "" if status.max_attempts is None else f" of {status.max_attempts}"
    return {
        "state": f"{status.state}, pruned" if status.is_pruned else status.state,
        "waits for": status.waits,
        "attempt": f"{status.attempt}{most}",
        "node": status.node,
        "running since": status.running_since,
        "being cancelled": status.is_cancelling or None,
        "next run": status.next_run_at,
        "ended": status.ended_at,
        # Of a traceback, what it comes to.
        "error": (status.error or "").strip().rpartition("\n")[2],
        "last event": status.cursor,
    }


def _enqueued(job: AgentJob | None) -> dict[str, Any]:
    if job is None:
        return {}
    names = ("app_name", "user_id", "session_id", "message")
    return {
        "agent": job.agent,
        "queue": job.queue,
        "enqueued": job.inserted_at,
        "tags": list(job.tags),
        **{name: job.args.get(name) for name in names},
    }


def _step_row(step: JobStep) -> dict[str, Any]:
    ms = None if step.duration is None else f"{step.duration * 1000:.0f}"
    undone = "" if step.state == "done" else f" ({step.state})"
    tokens = step.tokens.get("total_token_count")
    row = {**asdict(step), "ms": ms, "tokens": tokens}
    return {**row, "source": f"{step.source}{undone}"}


def _fields(shown: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in shown.items():
        if value not in (None, "", [], {}):
            table.add_row(name, _text(value))
    _console().print(table)


def undecided(steps: Sequence[UndecidedStep], *, as_json: bool) -> None:
    """Show the tool calls whose outcome nobody knows."""
    columns = ["id", "tool", "agent", "attempt", "began_at", "error"]
    _print([asdict(step) for step in steps], columns, as_json=as_json)


def approvals(found: Sequence[Approval], *, as_json: bool) -> None:
    """Show what agents ask people."""
    columns = ["id", "job_id", "kind", "agent", "tool", "args", "asked_at", "deadline"]
    answered = any(one.state != "open" for one in found)
    columns += ["state", "answered_by"] if answered else ["hint"]
    _print([one.to_json() for one in found], columns, as_json=as_json)


def answered(approval: Approval, *, as_json: bool) -> None:
    """Show that a question has its answer."""
    if as_json:
        _json(approval.to_json())
        return
    by = f" by {approval.answered_by}" if approval.answered_by else ""
    click.echo(
        f"approval {approval.id} ({approval.kind} of {approval.tool}) was "
        f"{approval.state}{by}; job {approval.job_id} goes on after its last answer"
    )


def schedules(stored: Sequence[StoredSchedule], *, as_json: bool) -> None:
    """Show a list of schedules."""
    rows = [{**asdict(one), "agent": one.agent} for one in stored]
    columns = ["name", "expression", "timezone", "agent", "next_run_at", "paused_at"]
    _print(rows, columns, as_json=as_json)


def job_row(job: AgentJob) -> dict[str, Any]:
    """Return a job as plain data."""
    names = [field.name for field in fields(job) if not field.name.startswith("_")]
    row = {name: getattr(job, name) for name in names}
    message = job.args.get("message")
    return {**row, "agent": job.agent, "message": message}


def result_row(result: AgentResult) -> dict[str, Any]:
    """Return a result as plain data, without its events."""
    names = [field.name for field in fields(result) if field.name != "events"]
    return {name: getattr(result, name) for name in names}


def _print(
    rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool
) -> None:
    if as_json:
        _json(rows)
        return
    if not rows:
        click.echo("none")
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(_text(row.get(column)) for column in columns))
    _console().print(table)


def _console() -> Console:
    # Wide enough for every column where nobody's terminal sets a width.
    console = Console(highlight=False, markup=False, emoji=False)
    return (
        console
        if console.is_terminal
        else Console(highlight=False, markup=False, emoji=False, width=200)
    )


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case timedelta():
            return f"{value.total_seconds():.2f} s"
        case str():
            return visible(value)
    return visible(json.dumps(value, default=_plain, ensure_ascii=False))


def _json(value: object) -> None:
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
    return str(value)
