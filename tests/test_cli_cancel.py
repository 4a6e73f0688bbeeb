"""`adk-oban cancel`, in this process and on a real database."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from adk_oban.cli import main


@pytest.fixture
def run(dsn: str, prefix: str, tmp_path, monkeypatch) -> Callable[..., str]:
    """Runs a command with three jobs that wait: run("cancel", "1", code=0)."""
    monkeypatch.chdir(tmp_path)
    env = {"ADK_OBAN_DSN": dsn, "ADK_OBAN_PREFIX": prefix}

    def command(*arguments: str, code: int = 0) -> str:
        done = CliRunner(env=env).invoke(main, arguments)
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else done.stdout + done.stderr

    command("migrate", "up")
    for _ in "123":
        command("enqueue", "helper", "hello")
    return command


def states(run: Callable[..., str]) -> list[str]:
    rows = json.loads(run("jobs", "--json"))["jobs"]
    return [row["state"] for row in sorted(rows, key=lambda row: row["id"])]


def test_several_jobs_are_cancelled_with_a_reason(run):
    (first, second) = json.loads(run("cancel", "1", "3", "--reason", "no", "--json"))
    assert [first["id"], second["id"]] == [1, 3]
    assert first["errors"][0]["error"] == "no"
    assert states(run) == ["cancelled", "available", "cancelled"]


def test_people_are_told_in_a_table(run):
    assert "cancelled" in run("cancel", "2", "--keep")


def test_those_that_cannot_be_cancelled_do_not_hold_up_the_others(run):
    run("cancel", "1")
    told = run("cancel", "1", "2", "17", code=1)
    assert "job 1 is cancelled already" in told
    assert "no job 17" in told
    assert states(run) == ["cancelled", "cancelled", "available"]
