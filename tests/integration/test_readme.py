"""The README's quick start, typed as it stands, with a fake server as Gemini."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.tools import FunctionTool
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker, schema
from adk_oban.testing import ScriptedModel, call, drain
from fake_gemini import Call, FakeGemini, Reply
from processes import ROOT, Process, eventually, python

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.+?)^```", README, re.MULTILINE | re.DOTALL)
AGENT, APP, FOLLOW, APPROVE, CANCEL = BLOCKS
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for line in README.splitlines()
    if line.startswith("adk-oban ")
]


def model(body: dict) -> Reply:
    """Answer as Gemini might: count with the tool, then say so."""
    last = body["contents"][-1]["parts"][-1]
    if "functionResponse" in last:
        return f"It has {last['functionResponse']['response']['result']} words."
    return Call("count_words", {"text": "to be or not to be"})


@pytest.fixture
def gemini() -> Iterator[FakeGemini]:
    with FakeGemini(model) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The reader's folder, with the agent of step 1."""
    (tmp_path / "my_agents.py").write_text(AGENT)
    (tmp_path / "my_app.py").write_text(APP)
    return tmp_path


async def test_the_quick_start_works_as_it_is_written(folder, gemini, data):
    env = {**gemini.env, "ADK_OBAN_DATA": str(data)}
    work, *others = COMMANDS
    assert [work[0], *(command[0] for command in others)] == ["work", "enqueue", "jobs"]

    with python("-m", "adk_oban", *work, cwd=folder, env=env) as worker:
        eventually(lambda: (data / "users").exists())
        said = [typed(command, folder, env) for command in others]
        assert worker.kill(signal.SIGTERM) == 0

    assert said[0] == "It has 6 words.\n"
    assert re.search(r"completed +agents +my_agents", said[1])
    eventually(lambda: not (data / "users").exists())


def typed(command: list[str], folder: Path, env: dict[str, str]) -> str:
    with python("-m", "adk_oban", *command, cwd=folder, env=env) as process:
        return finished(process)


def finished(process: Process) -> str:
    said, _ = process.popen.communicate(timeout=40)
    assert process.popen.returncode == 0
    return said


async def test_the_app_works_as_it_is_written(folder, gemini, database):
    async with await AsyncConnection.connect(database) as conn:
        await schema.migrate(conn)
    env = {**gemini.env, "ADK_OBAN_DSN": database}

    with python("my_app.py", cwd=folder, env=env) as process:
        said = finished(process)
    assert said.startswith("It has 6 words. 1 {")


async def test_a_running_agent_is_watched_answered_and_stopped_as_it_is_written(
    dsn, migrated, capsys
):
    def pay(amount: int) -> int:
        """Pay."""
        return amount

    replies = [call("pay", amount=30), "Paid.", call("pay", amount=300), "Not paid."]
    counter = LlmAgent(
        name="counter",
        model=ScriptedModel(replies=replies),
        tools=[FunctionTool(pay, require_confirmation=True)],
    )
    async with AdkOban(dsn, prefix=migrated, agents={"counter": counter}) as jobs:
        known = {"jobs": jobs, "AgentWorker": AgentWorker}
        for answer in ("Paid.", "Not paid."):
            job = await AgentWorker.enqueue("counter", "user-123", "Pay")
            await drain(jobs)
            await typed_here(APPROVE, known)
            await drain(jobs)
            await typed_here(FOLLOW, {**known, "job": job})
            assert answer in capsys.readouterr().out
        await typed_here(CANCEL, known)
        assert await drain(jobs) == {}


async def typed_here(block: str, known: dict[str, Any]) -> None:
    """Run a block of at most ten lines as in a notebook."""
    assert len(block.splitlines()) <= 10
    code = compile(block, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with asyncio.timeout(20):
        await eval(code, known)
