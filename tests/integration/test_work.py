"""`adk-oban work`: one process or several, which get real signals."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adk_oban import AdkOban, AgentWorker
from processes import Process, eventually, python


@pytest.fixture
async def client(dsn: str, migrated: str) -> AsyncIterator[AdkOban]:
    async with AdkOban(dsn, prefix=migrated) as jobs:
        yield jobs


@pytest.fixture
def env(dsn: str, migrated: str) -> dict[str, str]:
    path = f"tests:{Path(__file__).parent}"
    return {"ADK_OBAN_DSN": dsn, "ADK_OBAN_PREFIX": migrated, "PYTHONPATH": path}


def children_of(process: Process) -> set[int]:
    pid = process.popen.pid
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return {int(child) for child in path.read_text().split()}


async def test_a_second_signal_ends_the_time_of_grace(env, client):
    arguments = ["work", "-a", "waiting_agents", "--grace", "600"]
    with python("-m", "adk_oban", *arguments, env=env) as worker:
        job = await AgentWorker.enqueue("waiting_agents", "u", "hi", max_attempts=1)
        assert worker.line() == "waiting"
        worker.popen.send_signal(signal.SIGTERM)
        worker.popen.send_signal(signal.SIGINT)
        assert worker.popen.wait(30) == 0
    row = await client.get_job(job.id)
    assert (row.state, row.attempt) == ("available", 0)


async def test_processes_work_side_by_side_and_end_together(env, client):
    arguments = ["work", "-a", "waiting_agents", "-c", "1", "--processes=2"]
    arguments += ["--grace", "0"]
    with python("-m", "adk_oban", *arguments, env=env) as parent:
        jobs = [await AgentWorker.enqueue("waiting_agents", "u", "hi") for _ in "ab"]
        assert {parent.line(), parent.line()} == {"waiting"}
        nodes = {(await client.oban.get_job(j.id)).attempted_by[0] for j in jobs}
        assert len(nodes) == 2
        assert parent.kill(signal.SIGTERM) == 0
    assert {(await client.get_job(job.id)).state for job in jobs} == {"available"}


async def test_a_worker_process_that_dies_is_started_again(env, client):
    arguments = ["work", "-a", "waiting_agents", "-c", "1", "-p", "2", "--grace", "0"]
    with python("-m", "adk_oban", *arguments, env=env) as parent:
        await AgentWorker.enqueue("waiting_agents", "u", "hi")
        assert parent.line() == "waiting"
        first = children_of(parent)
        for pid in first:
            _kill(pid)
        assert parent.line() == "waiting"
        assert children_of(parent).isdisjoint(first)
        assert parent.kill(signal.SIGTERM) == 0


async def test_worker_processes_end_with_the_one_that_started_them(env, client):
    arguments = ["work", "-a", "waiting_agents", "-p", "2", "--grace", "0"]
    with python("-m", "adk_oban", *arguments, env=env) as parent:
        await AgentWorker.enqueue("waiting_agents", "u", "hi")
        assert parent.line() == "waiting"
        children = children_of(parent)
        parent.kill(signal.SIGKILL)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_worker_processes_that_cannot_start_are_given_up(env, tmp_path):
    log = tmp_path / "log"
    arguments = ["work", "-a", "waiting_agents", "-p", "2"]
    arguments += ["--prefix", "nowhere"]
    with python("-m", "adk_oban", *arguments, env=env, log=log) as parent:
        assert parent.popen.wait(50) == 1
    assert "adk-oban migrate up --prefix nowhere" in log.read_text()
    assert "fail as soon as they are started" in log.read_text()


def _kill(pid: int) -> None:
    import os

    os.kill(pid, signal.SIGKILL)
