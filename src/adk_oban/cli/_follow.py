"""`adk-oban follow`: what happens in a job, as it happens."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click

from adk_oban.events import JobEvent
from adk_oban.runtime import AdkOban

from ._command import as_json, client, command, database_options
from ._terminal import say

INTERRUPTED = 130
"""The exit code of who stops following, as shells have it."""


@click.command()
@click.argument("job_id", type=int, metavar="JOB")
@click.option("--after", metavar="CURSOR", help="Only what came after this event.")
@database_options
@as_json
@command
async def follow(
    job_id: int,
    after: str | None,
    dsn: str | None,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Follow JOB: what its agents say and do, until it has ended.

    Ends with 0 when the job completed, and with 1 when it did not. Ctrl-C ends the
    following, not the job. With --json, each line is an event.
    """
    async with client(dsn, prefix) as running:
        await watch_to_end(running, job_id, after=after, as_json=as_json)


async def watch_to_end(
    running: AdkOban, job_id: int, *, after: str | None = None, as_json: bool
) -> None:
    """Print a job's events as they come, and exit with 1 when it has not completed."""
    if await _watch(running, job_id, after, as_json=as_json) != "completed":
        sys.exit(1)


async def _watch(
    running: AdkOban, job_id: int, after: str | None, *, as_json: bool
) -> str:
    shown = _Lines() if as_json else _Text()
    cursor, outcome = after, ""
    events = running.events(job_id, after=after, partial=shown.takes_partials)
    try:
        async for event in events:
            shown.show(event)
            cursor = event.cursor or cursor
            outcome = event.type if event.is_outcome else outcome
    except asyncio.CancelledError:
        on = "" if cursor is None else f" --after {cursor}"
        click.echo(f"\njob {job_id} goes on: adk-oban follow {job_id}{on}", err=True)
        sys.exit(INTERRUPTED)
    # One that asks after the end is told no end.
    return outcome or await _state(running, job_id)


async def _state(running: AdkOban, job_id: int) -> str:
    if (job := await running.get_job(job_id)) is not None:
        return job.state
    await running.get_result(job_id)
    return "completed"


class _Lines:
    """Shows each event as a line of JSON."""

    takes_partials = True

    def show(self, event: JobEvent) -> None:
        say(json.dumps(event.to_json(), ensure_ascii=False))


class _Text:
    """Shows what people read; a terminal types along with the model."""

    def __init__(self) -> None:
        self.takes_partials = sys.stdout.isatty()
        # Whose text the last line has the beginning of, and which.
        self._typist: str | None = None
        self._typed = ""

    def show(self, event: JobEvent) -> None:
        match event.type:
            case "partial":
                self._type(event)
            case "event":
                self._say(event)
            case _:
                self._end_line()
                say(f"[{event.type}] {_told(event)}".rstrip())

    def _say(self, event: JobEvent) -> None:
        if self._typist == event.agent and event.text.startswith(self._typed):
            say(event.text[len(self._typed) :])
            self._typist, self._typed = None, ""
        else:
            self._end_line()
            if event.text:
                say(f"{event.agent}: {event.text}")
        for call in event.tool_calls:
            say(f"{event.agent} calls {call['name']} {_json(call['args'])}")
        for result in event.tool_results:
            say(f"{result['name']} returned {_json(result['result'])}")

    def _type(self, event: JobEvent) -> None:
        offset = event.data["offset"]
        if self._typist != event.agent or offset < len(self._typed):
            self._end_line()
            if offset:  # its beginning was not heard; the event has all of it
                return
            say(f"{event.agent}: ", nl=False)
            self._typist = event.agent
        if offset == len(self._typed):
            say(event.text, nl=False)
            self._typed += event.text

    def _end_line(self) -> None:
        if self._typist is not None:
            say()
        self._typist, self._typed = None, ""


def _told(event: JobEvent) -> str:
    match event.type:
        case "paused":
            asked = event.data.get("approvals") or []
            return "; ".join(_question(one) for one in asked)
        case "answered":
            by = event.data.get("answered_by")
            how = f"{event.data.get('tool')}: {event.data.get('state')}"
            return f"{how} by {by}" if by else how
    return event.text


def _question(asked: dict[str, Any]) -> str:
    about = f"{asked['id']}: {asked['kind']} of {asked['tool']}"
    return f"{about} {_json(asked['args'])}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
