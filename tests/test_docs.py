"""The documentation is true: its code runs, its links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click
import pytest
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker, errors, schema, telemetry
from adk_oban.cli import main
from processes import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OTHERS = [ROOT / name for name in ("AGENTS.md", "CONTRIBUTING.md", "CHANGELOG.md")]
GUIDES = PAGES[1:]
FENCE = re.compile(r"^```python\n(.+?)^```", re.MULTILINE | re.DOTALL)


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", GUIDES, ids=relative)
async def test_the_code_of_a_page_runs(page, database, helper, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agents").mkdir()
    async with await AsyncConnection.connect(database, autocommit=True) as conn:
        await schema.migrate(conn)
        await conn.execute("CREATE TABLE documents (id int, text text)")
        known: dict[str, Any] = {}
        for found in FENCE.finditer(page.read_text("utf-8")):
            known |= {"dsn": database, "conn": conn, "helper_agent": helper}
            # Blank lines before it make tracebacks tell the page's own lines.
            line = page.read_text("utf-8")[: found.start(1)].count("\n")
            await run("\n" * line + found[1], str(page), known)


async def run(source: str, name: str, known: dict[str, Any]) -> None:
    """Run a block as in a notebook, and the tests that it defines."""
    async with AsyncExitStack() as stack:
        if "AdkOban(" not in source:
            await start_jobs(stack, known)
        code = compile(source, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, known)
        if inspect.isawaitable(running):
            async with asyncio.timeout(20):
                await running
        for test in [key for key in known if key.startswith("test_")]:
            await known.pop(test)(known["dsn"])


async def start_jobs(stack: AsyncExitStack, known: dict[str, Any]) -> None:
    """Give what readers have by then: a worker that runs, and a job that it did."""
    jobs = AdkOban(
        known["dsn"], queues={"agents": 5}, agents={"helper": known["helper_agent"]}
    )
    known["jobs"] = await stack.enter_async_context(jobs)
    known["job"] = await AgentWorker.enqueue("helper", "u", "hi")
    # Left waiting, it would be among the jobs of the next block.
    await known["job"].result(timeout=20)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=relative)
def test_the_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


def test_every_command_and_option_is_in_the_reference():
    page = (ROOT / "docs/reference/cli.md").read_text("utf-8")
    told = {
        " ".join(re.findall(r"\b[a-z]+\b", cells[1])): set(
            re.findall(r"--[\w-]+", cells[3])
        )
        for line in page.splitlines()
        if line.startswith("| `") and (cells := line.split("|"))
    }

    assert told == dict(commands(main, ""))


def commands(group: click.Group, path: str) -> list[tuple[str, set[str]]]:
    found = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, f"{path}{name} ")
        else:
            options = [p for p in command.params if isinstance(p, click.Option)]
            names = {max(o.opts, key=len) for o in options if not o.hidden}
            found.append((f"{path}{name}", names))
    return found


def test_every_error_and_event_is_in_the_reference():
    folder = ROOT / "docs/reference"
    leaves = errors.AdkObanError.__subclasses__()
    told = set(re.findall(r"^\| `(\w+)`", (folder / "errors.md").read_text(), re.M))
    assert told == {leaf.__name__ for leaf in leaves}

    page = (folder / "telemetry.md").read_text()
    assert set(re.findall(r"^\| `(adk[\w.]+)`", page, re.M)) == set(telemetry.EVENTS)
