"""Sessions are steered from other processes than the one that runs them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from adk_oban import AdkOban, AgentWorker
from adk_oban.errors import JobFailedError
from adk_oban.jobs import AgentJob
from processes import Process, python

HERE = Path(__file__).parent
SESSION = {"app_name": "app", "session_id": "s"}
STOPPED = {
    "interrupt": ["slow", "stop", "to stop", "next", "to next"],
    "rollback": ["stop", "to stop", "next", "to next"],
}

type Start = Callable[..., Process]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file for which slow messages wait: as long as it is there, they go on."""
    path = tmp_path / "gate"
    path.touch()
    return path


@pytest.fixture
def start(dsn: str, migrated: str) -> Iterator[Start]:
    """Starts a program, and waits until it is ready."""
    with ExitStack() as stack:

        def start(program: str, *arguments: object) -> Process:
            given = [str(each) for each in (HERE / program, dsn, migrated, *arguments)]
            process = stack.enter_context(python(*given))
            process.line_with("ready")
            return process

        yield start


@pytest.fixture
async def client(dsn: str, migrated: str) -> AsyncIterator[AdkOban]:
    async with AdkOban(dsn, prefix=migrated) as jobs:
        yield jobs


@pytest.fixture
def env(dsn: str, migrated: str) -> dict[str, str]:
    return {"ADK_OBAN_DSN": dsn, "ADK_OBAN_PREFIX": migrated}


async def command(env: dict[str, str], *arguments: object) -> str:
    """Run `adk-oban` in a process of its own."""
    given = [sys.executable, "-m", "adk_oban", *[str(each) for each in arguments]]
    process = await asyncio.create_subprocess_exec(
        *given, env={**os.environ, **env}, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def enqueue(message: str, **options: Any) -> AgentJob:
    return await AgentWorker.enqueue("a", "u", message, **{**SESSION, **options})


async def slow_one(worker: Process) -> AgentJob:
    """Enqueue a message, and wait until the model thinks about it."""
    job = await enqueue("slow")
    assert await asyncio.to_thread(worker.line) == "asked slow"
    return job


async def texts_of(client: AdkOban) -> list[str]:
    session = await client.sessions.get_session(user_id="u", **SESSION)
    parts = [p for e in session.events if e.content for p in e.content.parts]
    return [part.text for part in parts if part.text]


def storm(start: Start, count: int, **options: Any) -> list[list[int | None]]:
    """Let four processes enqueue at once; return the ids that each got."""
    clients = [
        start("steer_client.py", name, count, json.dumps({**SESSION, **options}))
        for name in "pqrs"
    ]
    for each in clients:
        print(file=each.popen.stdin, flush=True)
    return [json.loads(each.line()) for each in clients]


@pytest.mark.parametrize("when_busy", STOPPED)
async def test_a_model_call_elsewhere_is_aborted(client, start, gate, when_busy):
    worker = start("steer_worker.py", gate)
    slow = await slow_one(worker)
    start("steer_worker.py", gate)
    following = await enqueue("next")
    stop = await enqueue("stop", when_busy=when_busy)

    assert await asyncio.to_thread(worker.line) == "aborted slow"
    assert (await stop.result(timeout=30)).text == "to stop"
    assert (await following.result(timeout=30)).text == "to next"
    with pytest.raises(JobFailedError, match=f"by job {stop.id}"):
        await slow.result(timeout=30)
    assert await texts_of(client) == STOPPED[when_busy]


@pytest.mark.parametrize("when_busy", STOPPED)
async def test_a_worker_that_dies_before_it_hears_of_it(client, start, gate, when_busy):
    worker = start("steer_worker.py", gate)
    slow = await slow_one(worker)
    following = await enqueue("next")
    worker.popen.send_signal(signal.SIGSTOP)
    stop = await enqueue("stop", when_busy=when_busy)
    worker.kill(signal.SIGKILL)
    start("steer_worker.py", gate)

    assert (await stop.result(timeout=30)).text == "to stop"
    assert (await following.result(timeout=30)).text == "to next"
    with pytest.raises(JobFailedError, match=f"by job {stop.id}"):
        await slow.result(timeout=30)
    # What it had done was with its process.
    assert await texts_of(client) == STOPPED["rollback"]


async def test_a_client_that_dies_before_it_commits_stops_nothing(client, start, gate):
    worker = start("steer_worker.py", gate)
    slow = await slow_one(worker)
    rude = start("steer_rude.py")
    assert await asyncio.to_thread(rude.line) == "enqueued"
    rude.kill(signal.SIGKILL)
    mine = await enqueue("mine", unique="k", when_busy="merge")
    gate.unlink()

    assert (await slow.result(timeout=30)).text == "to slow"
    assert (await mine.result(timeout=30)).text == "to mine"


async def many_merged(client: AdkOban) -> None:
    """Wait until the storm is in full swing."""
    async with asyncio.timeout(60):
        while True:
            messages = [job.args["message"] for job in await client.list_jobs()]
            if any(isinstance(m, dict) and len(m["parts"]) > 20 for m in messages):
                return
            await asyncio.sleep(0.02)


async def test_a_storm_of_messages_is_merged_and_none_is_lost(client, start, gate):
    worker = start("steer_worker.py", gate)
    await slow_one(worker)
    raging = asyncio.create_task(asyncio.to_thread(storm, start, 25, when_busy="merge"))
    await many_merged(client)
    worker.kill(signal.SIGKILL)
    ids = {job_id for each in await raging for job_id in each}
    start("steer_worker.py", gate)
    gate.unlink()
    for job_id in ids:
        await (await client.get_job(job_id)).result(timeout=30)

    mine = defaultdict(list)
    for text in await texts_of(client):
        if re.fullmatch(r"[pqrs]\d+", text):
            mine[text[0]].append(text)
    assert mine == {name: [f"{name}{n}" for n in range(25)] for name in "pqrs"}
    # One that was just being looked at takes no more.
    assert len(ids) < 4


async def test_of_a_storm_with_one_key_one_is_enqueued(client, start):
    found = await asyncio.to_thread(storm, start, 10, unique=["k", 60])

    assert len({job_id for each in found for job_id in each}) == 1
    assert len(await client.list_jobs()) == 1


async def test_of_a_storm_on_one_session_one_is_not_refused(client, start):
    found = await asyncio.to_thread(storm, start, 10, when_busy="reject")

    assert sum(job_id is not None for each in found for job_id in each) == 1


async def test_a_job_whose_last_worker_died_is_retried(client, start, gate, env):
    worker = start("steer_worker.py", gate)
    job = await enqueue("slow", max_attempts=1)
    assert await asyncio.to_thread(worker.line) == "asked slow"
    worker.kill(signal.SIGKILL)
    start("steer_worker.py", gate)
    with pytest.raises(JobFailedError, match="ended without a word"):
        await job.result(timeout=30)
    gate.unlink()

    await command(env, "retry", job.id)
    result = await job.result(timeout=30)
    assert (result.text, result.steps["replayed"]) == ("to slow", 2)


async def test_a_job_that_runs_is_forked_and_its_worker_dies(client, start, gate, env):
    worker = start("steer_worker.py", gate)
    job = await enqueue("slow")
    assert await asyncio.to_thread(worker.line) == "asked slow"
    forked = json.loads(await command(env, "fork", job.id, "--json"))
    told = await command(env, "fork", job.id, "--message", "fast", "--json")
    worker.kill(signal.SIGKILL)
    gate.unlink()
    start("steer_worker.py", gate)

    jobs = [
        job,
        *[await client.get_job(each["id"]) for each in (forked, json.loads(told))],
    ]
    results = [await each.result(timeout=30) for each in jobs]
    assert [result.text for result in results] == ["to slow", "to slow", "to fast"]
    assert [result.steps["replayed"] for result in results] == [2, 2, 0]
    assert [event.author for event in results[2].events] == ["a", "a", "a"]


@pytest.mark.parametrize("when_busy", STOPPED)
async def test_the_command_line_stops_what_runs(client, start, gate, env, when_busy):
    worker = start("steer_worker.py", gate)
    slow = await slow_one(worker)
    options = ("--user", "u", "--session", "s", "--app", "app", "--wait")
    said = await command(
        env, "enqueue", "a", "stop", "--when-busy", when_busy, *options
    )

    assert said == "to stop\n"
    assert await asyncio.to_thread(worker.line) == "aborted slow"
    assert (await slow.reload()).state == "cancelled"
