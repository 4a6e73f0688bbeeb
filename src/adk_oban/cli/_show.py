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
from adk_oban.jobs import AgentJob, AgentResult, UndecidedStep
from adk_oban.schema import Applied, Migration


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
    click.echo(result.text)


def jobs(found: Sequence[AgentJob], *, as_json: bool) -> None:
    """Show a list of jobs."""
    columns = ["id", "state", "queue", "agent", "attempt", "scheduled_at", "message"]
    _print([job_row(job) for job in found], columns, as_json=as_json)


def job_and_result(
    job: AgentJob | None, result: AgentResult | Exception | None, *, as_json: bool
) -> None:
    """Show a job and what it ended with, either of which may be gone."""
    shown: dict[str, Any] = {} if job is None else job_row(job)
    match result:
        case AgentResult():
            shown["result"] = result_row(result)
        case Exception():
            shown["error"] = str(result)
    if as_json:
        _json(shown)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in shown.items():
        if name != "result" and value not in (None, [], {}):
            table.add_row(name, _text(value))
    for name, value in shown.get("result", {}).items():
        if name not in shown and value not in (None, [], {}):
            table.add_row(name, _text(value))
    _console().print(table)


def undecided(steps: Sequence[UndecidedStep], *, as_json: bool) -> None:
    """Show the tool calls whose outcome nobody knows."""
    columns = ["id", "tool", "agent", "attempt", "began_at", "error"]
    _print([asdict(step) for step in steps], columns, as_json=as_json)


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
            return value
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _json(value: object) -> None:
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
    return str(value)
