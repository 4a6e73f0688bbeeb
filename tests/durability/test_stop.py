"""Jobs are stopped wherever they run, from any process, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from adk_oban import AdkOban, AgentWorker
from adk_oban.jobs import AgentJob
from fake_gemini import Call, FakeGemini, Hang, Reply
from processes import Process, python

WORKER = str(Path(__file__).with_name("stop_worker.py"))
SOON = 1.0  # seconds; on a quiet machine it takes a few hundredths

type Start = Callable[..., tuple[FakeGemini, list[Process]]]
type Cancel = Callable[..., Awaitable[None]]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file at which tools wait."""
    path = tmp_path / "gate"
    path.touch()
    return path


@pytest.fixture
def start(dsn: str, migrated: str, gate: Path) -> Iterator[Start]:
    """Starts a Gemini with replies, and two workers that ask it."""
    with ExitStack() as stack:

        def start(*replies: Reply) -> tuple[FakeGemini, list[Process]]:
            gemini = stack.enter_context(FakeGemini(replies))
            arguments = (WORKER, dsn, migrated, str(gate))
            workers = [
                stack.enter_context(python(*arguments, env=gemini.env)) for _ in "12"
            ]
            for worker in workers:
                worker.line_with("ready")
            return gemini, workers

        yield start


@pytest.fixture
async def client(dsn: str, migrated: str) -> AsyncIterator[AdkOban]:
    async with AdkOban(dsn, prefix=migrated) as jobs:
        yield jobs


@pytest.fixture(params=["python", "command line"])
def cancel(request: pytest.FixtureRequest, dsn: str, migrated: str) -> Cancel:
    """Cancels a job through one of the two doors."""

    async def by_command(job: AgentJob, reason: str) -> None:
        words = ["cancel", str(job.id), "--reason", reason, "--json"]
        where = ["--dsn", dsn, "--prefix", migrated]
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "adk_oban", *words, *where, stdout=-3
        )
        assert await run.wait() == 0

    async def by_python(job: AgentJob, reason: str) -> None:
        await job.cancel(reason=reason)

    return by_python if request.param == "python" else by_command


async def until(true: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


async def ended(job: AgentJob) -> AgentJob:
    async with asyncio.timeout(30):
        while (job := await job.reload()).state != "cancelled":
            assert job.state in ("available", "executing"), job
            await asyncio.sleep(0.02)
    return job


async def runner_of(job: AgentJob, client: AdkOban, workers: list[Process]) -> Process:
    """Return the worker that runs a job."""
    row = await client.oban.get_job(job.id)
    return next(w for w in workers if str(w.popen.pid) in row.attempted_by[0])


@pytest.mark.parametrize("first", ["", "Once"])
async def test_a_model_call_is_aborted_and_its_connection_closed(
    client, start, record_property, first
):
    gemini, _workers = start(Hang(first))
    mode = {"streaming_mode": "sse"} if first else {}
    job = await AgentWorker.enqueue("slow", "u", "hi", runner_opts=mode)
    await until(lambda: gemini.requests)
    began = time.monotonic()
    await job.cancel(reason="enough")
    await until(lambda: gemini.left)
    took = gemini.left[0] - began
    record_property("seconds", took)
    print(f"the connection was closed {took * 1000:.0f} ms after the call")
    assert took < SOON
    assert (await ended(job)).errors[0]["error"] == "enough"
    assert gemini.requests[0].stream == bool(first)


async def test_many_model_calls_are_aborted_through_either_door(client, start, cancel):
    gemini, _workers = start(*[Hang()] * 8)
    jobs = [await AgentWorker.enqueue("slow", "u", "hi") for _ in range(8)]
    await until(lambda: len(gemini.requests) == 8)
    await asyncio.gather(*(cancel(job, "enough") for job in jobs[:2]))
    for job in jobs[:2]:
        assert (await ended(job)).errors[0]["error"] == "enough"
    await until(lambda: len(gemini.left) == 2)
    assert [(await job.reload()).state for job in jobs[2:]] == ["executing"] * 6


async def test_a_tool_is_cancelled_and_its_finally_block_ends(
    client, start, cancel, gate
):
    gemini, workers = start(Call("wait"), "never")
    job = await AgentWorker.enqueue("slow", "u", "hi", session_id="s")
    await until(lambda: gemini.requests)
    await asyncio.to_thread(await_tool, await runner_of(job, client, workers))
    await cancel(job, "enough")
    job = await ended(job)
    assert gate.with_name("left").exists()
    assert (job.errors[0]["error"], len(gemini.requests)) == ("enough", 1)
    where = {"app_name": "adk_oban", "user_id": "u", "session_id": "s"}
    assert await client.sessions.get_session(**where) is None


async def test_a_tool_that_blocks_a_thread_is_left_behind(client, start, gate):
    gemini, workers = start(Call("block"), "never")
    job = await AgentWorker.enqueue("slow", "u", "hi")
    await until(lambda: gemini.requests)
    await asyncio.to_thread(await_tool, await runner_of(job, client, workers))
    await job.cancel(reason="enough")
    job = await ended(job)
    told = "enough; tool 'block' blocks a thread and was left behind"
    assert job.errors[0]["error"] == told
    gate.unlink()
    await until(gate.with_name("went on").exists)
    assert (await job.reload()).state == "cancelled"
    assert len(gemini.requests) == 1


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "running"])
async def test_killed_right_after_it_ends_as_cancelled_and_runs_nowhere(
    client, start, cancel, stopped
):
    gemini, workers = start(Hang(), "never")
    job = await AgentWorker.enqueue("slow", "u", "hi")
    await until(lambda: gemini.requests)
    runner = await runner_of(job, client, workers)
    if stopped:  # and so deaf
        runner.popen.send_signal(signal.SIGSTOP)
    await cancel(job, "enough")
    runner.kill()
    job = await ended(job)
    assert job.errors[-1]["error"] == "enough"
    assert len(gemini.requests) == 1
    assert (await client.get_job(job.id)).attempt == 1


async def test_a_stop_of_the_worker_right_after_ends_it_as_cancelled(client, start):
    gemini, workers = start(Hang(), "never")
    job = await AgentWorker.enqueue("slow", "u", "hi")
    await until(lambda: gemini.requests)
    runner = await runner_of(job, client, workers)
    await job.cancel(reason="enough")
    assert await asyncio.to_thread(runner.kill, signal.SIGTERM) == 0
    assert (await ended(job)).errors[-1]["error"] == "enough"
    assert len(gemini.requests) == 1


def await_tool(worker: Process) -> None:
    worker.line_with("in the tool")
