"""What runs in the foreground: real processes that get real signals."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator

import psycopg
import pytest

from adk_oban import AdkOban, AgentWorker
from processes import eventually, python


@pytest.fixture
async def client(dsn: str, migrated: str) -> AsyncIterator[AdkOban]:
    """A client that leaves it to the worker which agents there are."""
    async with AdkOban(dsn, prefix=migrated) as jobs:
        yield jobs


@pytest.fixture
def env(dsn: str, migrated: str) -> dict[str, str]:
    """The environment of a worker whose tables are there."""
    return {"ADK_OBAN_DSN": dsn, "ADK_OBAN_PREFIX": migrated, "PYTHONPATH": "tests"}


async def test_a_worker_runs_what_is_enqueued_and_ends_gracefully(env, client):
    arguments = ["work", "-a", "sample_agents", "-q", "agents:3", "-c", "2"]
    with python("-m", "adk_oban", *arguments, env=env) as worker:
        job = await AgentWorker.enqueue("sample_agents:named", "u", "hi")
        assert (await job.result(timeout=30)).text == "named"
        assert worker.kill(signal.SIGTERM) == 0


async def test_a_workers_log_is_lines_of_json_when_it_is_told_so(env, client, tmp_path):
    log = tmp_path / "log"
    arguments = ["work", "-a", "sample_agents", "--json"]
    with python("-m", "adk_oban", *arguments, env=env, log=log) as worker:
        job = await AgentWorker.enqueue("sample_agents:named", "u", "hi")
        await job.result(timeout=30)
        worker.kill(signal.SIGTERM)

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (told,) = [line for line in lines if "job_id" in line]
    assert (told["job_id"], told["event"]) == (job.id, "adk.oban.job.complete")
    assert {"at", "level", "logger", "message"} == set(lines[0])


async def test_a_worker_ends_although_a_tool_blocks_a_thread(env, client):
    arguments = ["work", "-a", "blocking_agents", "--grace", "0.2"]
    with python("-m", "adk_oban", *arguments, env=env) as worker:
        await AgentWorker.enqueue("blocking_agents", "u", "hi")
        assert worker.line() == "blocked"
        assert worker.kill(signal.SIGTERM) == 0


def test_postgres_runs_in_the_foreground_and_prints_its_dsn(data):
    with python("-m", "adk_oban", "postgres", "--data", str(data)) as server:
        with psycopg.connect(server.line()) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
        assert server.kill(signal.SIGINT) == 0
    with python("-m", "adk_oban", "postgres", "--json", "--data", str(data)) as server:
        with psycopg.connect(json.loads(server.line())["dsn"]) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
        assert server.kill(signal.SIGTERM) == 0
    eventually(lambda: not (data / "users").exists())
