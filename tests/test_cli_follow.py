"""`adk-oban follow` and `enqueue --follow`, for people, programs and terminals."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from google.adk.agents import LlmAgent

from adk_oban import AdkOban, AgentWorker
from adk_oban.cli import main
from adk_oban.jobs import AgentJob
from adk_oban.testing import ScriptedModel, drain
from test_events import look, looker
from test_partials import Typist


@pytest.fixture
def env(dsn, migrated, tmp_path, monkeypatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {"ADK_OBAN_DSN": dsn, "ADK_OBAN_PREFIX": migrated}


@pytest.fixture
def run(env):
    """Runs a command in this process; not within a loop: run("follow", "1", code=0)."""

    async def command(*arguments: str, code: int = 0) -> str:
        def invoke() -> str:
            done = CliRunner(env=env).invoke(main, arguments)
            assert done.exit_code == code, done.output
            return done.stdout or done.stderr

        return await asyncio.to_thread(invoke)

    return command


async def process(env, *arguments: str, **options) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "adk_oban", *arguments)
    pipe = asyncio.subprocess.PIPE
    given = {"stdout": pipe, "stderr": pipe, **options}
    return await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **env}, **given
    )


async def done(dsn: str, prefix: str, agent: LlmAgent, **options) -> int:
    """Run a job of an agent to its end; return its id."""
    async with AdkOban(dsn, prefix=prefix, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi", **options)
        await drain(jobs)
        return job.id


async def test_people_read_text_calls_and_the_end(run, dsn, migrated):
    job = await done(dsn, migrated, looker())

    assert (await run("follow", f"{job}")).splitlines() == [
        'looker calls look {"where": "north"}',
        'look returned {"seen": "nothing in the north"}',
        "looker: I saw nothing.",
        "[completed] I saw nothing.",
    ]


async def test_programs_read_a_line_of_json_for_each_event(run, dsn, migrated):
    job = await done(dsn, migrated, looker())
    lines = (await run("follow", f"{job}", "--json")).splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["type"] for event in events] == [*["event"] * 3, "completed"]

    after = events[1]["cursor"]
    rest = await run("follow", f"{job}", "--json", "--after", after)
    assert rest.splitlines() == lines[2:]


async def test_a_job_that_did_not_complete_is_exit_code_1(run, dsn, migrated):
    agent = LlmAgent(name="a", model=ScriptedModel(replies=[OSError("down")]))
    job = await done(dsn, migrated, agent, max_attempts=1)

    said = await run("follow", f"{job}", code=1)
    assert "[discarded]" in said and "down" in said
    cursor = json.loads(
        (await run("follow", f"{job}", "--json", code=1)).split("\n")[-2]
    )
    assert await run("follow", f"{job}", "--after", cursor["cursor"], code=1) == ""


async def test_wrong_jobs_and_cursors_are_one_message(run, dsn, migrated):
    job = await done(dsn, migrated, looker())
    assert "no job 77777" in await run("follow", "77777", code=1)
    assert "after must be the cursor" in await run(
        "follow", f"{job}", "--after", "x", code=1
    )
    both = ("enqueue", "a", "hi", "--follow", "--wait")
    assert "say one of --follow and --wait" in await run(*both, code=1)


async def test_enqueue_follows_to_the_end(serve, env):
    async with serve(agents={"a": looker()}):
        running = await process(env, "enqueue", "a", "hi", "--follow")
        said, _ = await asyncio.wait_for(running.communicate(), 30)
    assert running.returncode == 0
    assert said.decode().splitlines()[-1] == "[completed] I saw nothing."


async def test_ctrl_c_ends_the_following_and_not_the_job(serve, env):
    model = Typist(answers=[["There."]], steps=asyncio.Semaphore(0))
    async with serve(agents={"a": LlmAgent(name="a", model=model)}):
        job = await AgentWorker.enqueue("a", "u", "hi", streaming=True)
        running = await process(env, "follow", f"{job.id}", "--json")
        hearing = asyncio.create_task(running.stdout.readline())
        await probe(job, hearing.done)
        assert json.loads(await hearing)["agent"] == "probe"
        running.send_signal(signal.SIGINT)
        _, said = await asyncio.wait_for(running.communicate(), 30)
        assert running.returncode == 130
        assert f"job {job.id} goes on: adk-oban follow {job.id}" in said.decode()

        for _ in range(2):
            model.steps.release()
        assert (await job.result(timeout=10)).text == "There."


async def test_a_terminal_types_along_and_repeats_nothing(serve, env):
    model = Typist(answers=[["Hel", "lo."]], steps=asyncio.Semaphore(0))
    agent = LlmAgent(name="a", model=model, tools=[look])
    async with serve(agents={"a": agent}):
        job = await AgentWorker.enqueue("a", "u", "hi", streaming=True)
        screen, theirs = pty.openpty()
        running = await process(env, "follow", f"{job.id}", stdout=theirs)
        os.close(theirs)
        typed = asyncio.create_task(read(screen, "probe: "))
        await probe(job, typed.done)
        lines = await typed
        for text in ("a: Hel", "lo."):
            model.steps.release()
            lines += await read(screen, text)
        model.steps.release()
        lines += await read(screen, "[completed] Hello.\r\n")
        await asyncio.wait_for(running.wait(), 30)
        os.close(screen)

    probed = [line for line in lines.split("\r\n") if not line.startswith("probe")]
    assert probed == ["a: Hello.", "[completed] Hello.", ""]


async def read(screen: int, end: str) -> str:
    """Return what a terminal shows from now on until it shows this."""
    seen = ""
    while end not in seen:
        seen += (await asyncio.to_thread(os.read, screen, 1024)).decode()
    return seen


async def probe(job: AgentJob, heard: Callable[[], bool]) -> None:
    """Say something as another agent, until who follows is there and hears it."""
    services = job._services
    told = {"job_id": job.id, "attempt": 1, "steps": 0, "agent": "probe", "answer": "x"}
    channel = f"{services.prefix}.oban_adk_partial"
    payload = json.dumps({**told, "text": ".", "offset": 0})
    async with asyncio.timeout(30):
        while not heard():
            async with services.pool.connection() as conn:
                await conn.execute("SELECT pg_notify(%s, %s)", (channel, payload))
            await asyncio.sleep(0.02)
