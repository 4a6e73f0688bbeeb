"""`enqueue --when-busy` and `--unique`, `retry` and `fork`, on the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from google.adk.agents import LlmAgent

from adk_oban import AdkOban
from adk_oban.cli import main
from adk_oban.testing import ScriptedModel, drain


@pytest.fixture
def run(dsn, prefix, tmp_path, monkeypatch) -> Callable[..., str]:
    """Runs a command in an empty folder: run("retry", "1", code=0)."""
    monkeypatch.chdir(tmp_path)
    env = {"ADK_OBAN_DSN": dsn, "ADK_OBAN_PREFIX": prefix}

    def command(*arguments: str, code: int = 0) -> str:
        done = CliRunner(env=env).invoke(main, arguments)
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else done.stderr

    command("migrate", "up")
    return command


@pytest.fixture
def work(dsn, prefix) -> Callable[..., None]:
    """Runs what waits, with an agent `"a"` that gives these replies."""

    def work(*replies: object) -> None:
        async def drained() -> None:
            agent = LlmAgent(name="a", model=ScriptedModel(replies=[*replies]))
            async with AdkOban(dsn, prefix=prefix, agents={"a": agent}) as jobs:
                await drain(jobs)

        asyncio.run(drained())

    return work


def enqueue(run, *options: str, message: str = "hi", code: int = 0):
    said = run("enqueue", "a", message, "--session", "s", "--json", *options, code=code)
    return json.loads(said) if code == 0 else said


def test_a_busy_session_is_told_of(run):
    enqueue(run)
    error = enqueue(run, "--when-busy", "reject", code=1)

    assert "session 's' is busy with job 1" in error


def test_messages_that_wait_are_merged(run):
    first = enqueue(run, "--when-busy", "merge")
    again = enqueue(run, "--when-busy", "merge", message="you")

    assert again["id"] == first["id"]
    assert [p["text"] for p in again["args"]["message"]["parts"]] == ["hi", "you"]


def test_a_key_is_enqueued_once(run):
    first = enqueue(run, "--unique", "daily")
    assert enqueue(run, "--unique", "daily")["id"] == first["id"]
    assert enqueue(run, "--unique", "other", "--unique-for", "2h")["id"] != first["id"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--when-busy", "shout"], "when_busy must be one of"),
        (["--unique-for", "1h"], "--unique-for needs a key"),
        (["--unique", "k", "--unique-for", "soon"], "--unique-for must be seconds"),
        (["--unique", "k", "--unique-for", "0"], "more than 0 seconds"),
    ],
)
def test_what_is_wrong_is_one_clear_line(run, options, message):
    error = enqueue(run, *options, code=1)
    assert message in error
    assert "Traceback" not in error


def test_retry_lets_jobs_go_on(run, work):
    enqueue(run, "--max-attempts", "1")
    enqueue(run, "--max-attempts", "1")
    work(OSError("down"), OSError("down"))
    again = json.loads(run("retry", "1", "2", "--json"))
    assert [job["state"] for job in again] == ["available"] * 2
    work("one", "two")
    assert json.loads(run("show", "2", "--json"))["result"]["text"] == "two"


def test_retry_names_what_it_cannot_retry(run, work):
    enqueue(run)
    work("done")

    error = run("retry", "1", "7", code=1)
    assert "job 1 cannot be retried: it has completed" in error
    assert "no job 7" in error


def test_fork_replays_a_job_on_a_copy_of_its_session(run, work):
    enqueue(run)
    work("done")
    assert run("fork", "1") == "job 2 is available in queue agents\n"
    fork = json.loads(run("fork", "1", "--after-step", "0", "--json"))
    assert fork["meta"] == {"forked_from": 1, "after_step": 0}
    assert fork["args"]["session_id"].startswith("fork-")
    work("once more")
    texts = [json.loads(run("show", n, "--json"))["result"]["text"] for n in "23"]
    assert texts == ["done", "once more"]


def test_fork_takes_another_message(run, work):
    enqueue(run)
    work("done")
    options = ("--message", "And now?", "--session", "mine", "--queue", "other")
    fork = json.loads(run("fork", "1", *options, "--json"))

    assert (fork["queue"], fork["args"]["session_id"]) == ("other", "mine")
    assert fork["args"]["message"] == "And now?"


def test_fork_refuses_a_step_that_is_not_there(run, work):
    enqueue(run)
    work("done")

    assert "job 1 has 1 steps" in run("fork", "1", "--after-step", "9", code=1)
    assert "no job 7" in run("fork", "7", code=1)
