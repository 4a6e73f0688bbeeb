"""The demo's crash: a worker dies in the middle of an agent, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.adk.events import Event
from rich.table import Table
from rich.text import Text

from adk_oban import AdkOban, AgentJob, AgentResult, AgentWorker
from demo.workers import Log, Told, console

_TOTAL = "total_token_count"
_STYLES = {"live": "bold green", "replayed": "cyan", "changed": "yellow"}


async def crash(
    jobs: AdkOban, file: Path, running: dict[str, Process], log: Log
) -> None:
    """Kill the worker that runs a job; tell what the other one makes of it."""
    console.print()
    console.rule("A crash", align="left")
    console.print(
        "A Workflow: an examiner uses three tools, one after another, and a writer "
        "makes\none sentence of what it found. In the middle, the worker's process is "
        "killed.\n"
    )
    job = await AgentWorker.enqueue("report", "demo", f"Report on <{file}>.")
    killed = await _kill(job, running, log)
    if killed is None:
        console.print("The model did not use the slow tool: there was nothing to kill.")
        return
    died_at = time.monotonic()
    console.print(
        f"  job {job.id}: {killed.worker} is killed in the middle of the tool "
        "weigh_sentences",
        style="bold red",
    )
    result = await job.result()
    done = sum(result.steps[source] for source in _STYLES)
    again = await log.steps_after_first(job.id, done)
    console.print(
        f"  job {job.id}: {again[0].worker} went on with it "
        f"{again[0].at - died_at:.1f} s later, and finished it in attempt "
        f"{result.attempts}\n",
        style="green",
    )
    before = [told for told in log.steps[job.id] if told.fields["attempt"] == 1]
    console.print(_steps(before, again, killed), soft_wrap=False)
    console.print(_bill(before, again, result), soft_wrap=False)
    console.print(
        "The tool that was in flight ran twice: nobody knows how far it came."
    )
    await _session(jobs, job, result)
    console.print(f"\nThe answer: {' '.join(result.text.split())}")


async def _kill(job: AgentJob, running: dict[str, Process], log: Log) -> Told | None:
    """Kill the worker of the job when its slow tool runs; None if that never does."""
    begun = asyncio.ensure_future(log.in_slow_tool(job.id))
    ended = asyncio.ensure_future(job.result())
    await asyncio.wait([begun, ended], return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not begun.done():
        begun.cancel()
        return None
    told = begun.result()
    running[told.worker].send_signal(signal.SIGKILL)
    await running[told.worker].wait()
    return told


def _steps(before: Sequence[Told], again: Sequence[Told], killed: Told) -> Table:
    """What was done before the kill and after, step by step."""
    table = Table(title="Its steps", title_justify="left", box=None, pad_edge=False)
    table.add_column("", justify="right")
    for name in ("step", "name", "agent"):
        table.add_column(name, overflow="fold")
    table.add_column(f"attempt 1: {killed.worker}")
    table.add_column(f"attempt 2: {again[0].worker}")
    table.add_column("tokens", justify="right")
    for number, after in enumerate(again, 1):
        fields = after.fields
        if number <= len(before):
            was = _done(before[number - 1])
        elif number == len(before) + 1:
            was = Text("in flight: killed", "bold red")
        else:
            was = Text("")
        tokens = str(fields["usage"].get(_TOTAL, ""))
        names = (fields["kind"], fields["name"], fields["agent"])
        table.add_row(str(number), *names, was, _done(after), tokens)
    return table


def _done(told: Told) -> Text:
    source = told.fields["source"]
    took = "" if source == "replayed" else f" {told.fields['duration']:.0f} ms"
    return Text(f"{source}{took}", _STYLES[source])


def _bill(before: Sequence[Told], again: Sequence[Told], result: AgentResult) -> Table:
    """What it cost, and what running the message again would have cost."""
    live = [told for told in [*before, *again] if told.fields["source"] != "replayed"]
    kinds, without = (
        Counter(told.fields["kind"] for told in steps) for steps in (live, again)
    )
    without += Counter(told.fields["kind"] for told in before)
    paid, saved = result.usage[_TOTAL], result.saved[_TOTAL]
    table = Table(
        title="\nWhat it cost", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("")
    table.add_column("here", justify="right")
    table.add_column("run again from the start", justify="right")
    table.add_column("saved", justify="right", style="bold green")
    # The one that was in flight ran twice, here and there.
    tools, more = kinds["tool"] + 1, without["tool"] + 1
    for name, ours, theirs in (
        ("model calls", kinds["model"], without["model"]),
        ("tokens", paid, paid + saved),
        ("tools run", tools, more),
    ):
        table.add_row(name, f"{ours:,}", f"{theirs:,}", f"{theirs - ours:,}")
    return table


async def _session(jobs: AdkOban, job: AgentJob, result: AgentResult) -> None:
    """Tell what the session holds."""
    session = await jobs.sessions.get_session(
        app_name=result.app_name, user_id=result.user_id, session_id=result.session_id
    )
    assert session is not None  # noqa: S101  (the job has written it)
    events = session.events
    authors = Counter(event.author for event in events)
    shown = ", ".join(f"{author} {count}" for author, count in authors.items())
    console.print(f"\nThe session holds {len(events)} events: {shown}.")
    clean = authors["user"] == 1 and not _open_calls(events)
    clean = clean and len({event.invocation_id for event in events}) == 1
    console.print(
        "One clean turn: the user's message once, every call with its result."
        if clean
        else "The turn is not clean.",
        style="bold green" if clean else "bold red",
    )


def _open_calls(events: Sequence[Event]) -> set[Any]:
    asked = Counter(call.id for e in events for call in e.get_function_calls())
    answered = Counter(each.id for e in events for each in e.get_function_responses())
    return set(asked - answered) | set(answered - asked)
