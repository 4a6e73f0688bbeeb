"""Every command, in this process and on a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from google.genai import types

from adk_oban import AdkOban, AgentWorker, once
from adk_oban.cli import main
from adk_oban.testing import ScriptedModel, call, drain

EACH = [
    "oban",
    "adk_sessions",
    "results",
    "schedules",
    "steps",
    "producers",
    "live_jobs",
]


@pytest.fixture
def run(
    dsn: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Runs a command in an empty folder: run("jobs", "--json", code=0)."""
    monkeypatch.chdir(tmp_path)
    env = {"ADK_OBAN_DSN": dsn, "ADK_OBAN_PREFIX": prefix}

    def command(*arguments: str, code: int = 0, stdin: str = "", **more: str) -> str:
        done = CliRunner(env={**env, **more}).invoke(main, arguments, input=stdin)
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else done.stderr

    return command


def test_migrate_goes_up_and_down_and_tells_its_status(run):
    assert run("migrate", "status") == "not migrated; run: adk-oban migrate up\n"
    assert "2 adk_sessions" in run("migrate", "up")
    assert run("migrate", "up") == "nothing to do\n"
    assert json.loads(run("migrate", "up", "--json")) == []
    status = json.loads(run("migrate", "status", "--json"))
    assert [row["version"] for row in status] == [1, 2, 3, 4, 5, 6, 7]
    assert "took back 7 live_jobs, 6 producers" in run("migrate", "down", "--yes")
    assert json.loads(run("migrate", "status", "--json")) == []


def test_down_asks_first(run):
    run("migrate", "up")

    run("migrate", "down", code=1)
    assert len(json.loads(run("migrate", "status", "--json"))) == len(EACH)


def test_down_keeps_its_question_out_of_the_json(run):
    up = json.loads(run("migrate", "up", "--json"))
    assert [step["name"] for step in up] == EACH
    down = json.loads(run("migrate", "down", "--json", stdin="y\n"))
    assert [step["name"] for step in down] == EACH[::-1]


def test_enqueue_takes_all_options(run):
    run("migrate", "up")
    line = run(
        *("enqueue", "helper", "hello", "--user", "u", "--session", "s"),
        *("--queue", "other", "--priority", "1", "--in", "10m", "--max-attempts", "5"),
        "--json",
    )

    job = json.loads(line)
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("other", 1, 5)
    assert job["state"] == "scheduled"
    assert job["args"]["user_id"] == "u"
    assert job["args"]["session_id"] == "s"
    assert run("enqueue", "helper", "hello", "--at", "2030-01-31T09:00+01:00") == (
        "job 2 is scheduled in queue agents\n"
    )
    assert len(run("jobs").splitlines()) == 3


def test_an_inline_config_is_enqueued_as_json(run):
    run("migrate", "up")
    config = json.dumps({"model": "gemini-flash-latest", "name": "inline"})

    job = json.loads(run("enqueue", config, "hi", "--json"))
    assert job["args"]["agent_config"]["name"] == "inline"


def test_show_tells_of_a_job_its_result_and_its_end(run, dsn, prefix):
    run("migrate", "up")
    run("enqueue", "sample_agents:named", "hi")
    run("enqueue", "nobody", "hi")
    asyncio.run(run_all(dsn, prefix))

    shown = json.loads(run("show", "1", "--json"))
    assert (shown["state"], shown["result"]["text"]) == ("completed", "named")
    assert "is not registered here" in json.loads(run("show", "2", "--json"))["error"]
    assert "named" in run("show", "1")
    assert "no job 99" in run("show", "99", code=1)


def test_show_tells_where_a_job_stands_and_its_steps(run, dsn, prefix):
    run("migrate", "up")
    run("enqueue", "sample_agents:named", "hi", "--user", "anna")
    asyncio.run(run_all(dsn, prefix))

    shown = json.loads(run("show", "1", "--json"))
    assert shown["status"]["steps_done"] == len(shown["steps"]) > 0
    assert shown["status"]["cursor"].startswith("1-")
    assert {step["source"] for step in shown["steps"]} == {"live"}
    assert shown["approvals"] == []
    told = run("show", "1")
    for word in ("completed", "1 of 3", "anna", "model", "live", "named"):
        assert word in told


def test_jobs_are_found_by_every_filter_and_a_page_at_a_time(run):
    run("migrate", "up")
    for number in "123":
        run("enqueue", "helper", number, "--user", f"u{number}", "--app", "shop")
    everything = ("--app", "shop", "--agent", "helper", "--state", "available")
    everything += ("--state", "scheduled", "--since", "1h", "--queue", "agents")

    page = json.loads(run("jobs", *everything, "--limit", "2", "--json"))
    assert [job["id"] for job in page["jobs"]] == [3, 2]
    rest = json.loads(run("jobs", *everything, "--after", page["next"], "--json"))
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == ([1], None)
    assert [job["id"] for job in listed(run, "--user", "u2")] == [2]
    assert listed(run, "--session", "s") == listed(run, "--tag", "t") == []
    assert listed(run, "--until", "1h") == []


def test_a_page_tells_people_where_the_next_begins(run):
    run("migrate", "up")
    for number in "123":
        run("enqueue", "helper", number)

    assert len(run("jobs", "--limit", "3").splitlines()) == 4
    *_, more = run("jobs", "--limit", "2").splitlines()
    assert more.startswith("more: --after ")
    assert len(run("jobs", "--after", more.split()[-1]).splitlines()) == 2


def test_jobs_are_cancelled_and_retried_by_filter(run):
    run("migrate", "up")
    for user in ("a", "a", "b"):
        run("enqueue", "helper", "hi", "--user", user)

    assert run("cancel", "--user", "a", "--reason", "gone") == "cancelled 2 jobs\n"
    assert len(listed(run, "--state", "cancelled")) == 2
    retried = run("retry", "--state", "cancelled", "--user", "a", "--json")
    assert json.loads(retried) == {"count": 2}
    assert len(listed(run, "--state", "available")) == 3


def listed(run: Callable[..., str], *filters: str) -> list[dict]:
    return json.loads(run("jobs", *filters, "--json"))["jobs"]


def test_schedules_are_added_listed_paused_resumed_and_removed(run):
    run("migrate", "up")
    run("schedule", "add", "@daily", "helper", "Clean up", "--name", "nightly")

    def listed() -> dict:
        (row,) = json.loads(run("schedule", "list", "--json"))
        return row

    assert (listed()["agent"], listed()["args"]["message"]) == ("helper", "Clean up")
    run("schedule", "pause", "nightly")
    assert listed()["paused_at"]
    run("schedule", "resume", "nightly")
    assert not listed()["paused_at"]
    assert "nightly" in run("schedule", "list")
    assert run("schedule", "remove", "nightly") == "removed nightly\n"
    assert json.loads(run("schedule", "list", "--json")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["enqueue", "helper", ""], "message must not be missing or empty"),
        (["enqueue", "helper", "hi", "--user", ""], "user_id must not be"),
        (["enqueue", "helper", "hi", "--priority", "10"], "priority must be 0 to 9"),
        (["enqueue", "helper", "hi", "--at", "tomorrow"], "--at must be an ISO time"),
        (["enqueue", "helper", "hi", "--at", "2030-01-01"], "naive"),
        (["enqueue", "helper", "hi", "--in", "soon"], "--in must be seconds"),
        (["enqueue", "helper", "hi", "--in", "1h", "--at", "2030-01-01"], "either"),
        (["enqueue", "x", "hi", "-a", "sample_agents"], "'x' is not registered"),
        (["jobs", "--state", "done"], "state must be one of"),
        (["jobs", "--limit", "0"], "limit must be 1 to 1000, got 0"),
        (["jobs", "--after", "17"], "must be the cursor of a page"),
        (["jobs", "--since", "2030-01-01"], "since must have a time zone"),
        (["jobs", "--until", "soon"], "--until must be an ISO time"),
        (["cancel"], "name jobs by their numbers, or find them by options"),
        (["cancel", "1", "--user", "u"], "name jobs by their numbers"),
        (["retry", "--state", "completed"], "got 'completed'"),
        (["schedule", "add", "often", "helper"], "cron expression 'often'"),
        (["schedule", "add", "@daily", "h", "--timezone", "Mars"], "timezone 'Mars'"),
        (["schedule", "remove", "nobody"], "no schedule is named 'nobody'"),
        (["work", "-q", "agents"], "NAME:LIMIT"),
        (["work", "-c", "0"], "--concurrency must be 1"),
        (["work", "--rescue-after", "0"], "rescue_after must be positive"),
        (["work", "--grace", "-1"], "--grace must be 0 or more"),
        (["work", "-a", "./nowhere"], "does not exist"),
    ],
)
def test_bad_input_is_one_clear_line(run, arguments, message):
    run("migrate", "up")
    error = run(*arguments, code=1)

    assert message in error
    assert "Traceback" not in error
    assert json.loads(run("jobs", "--json")) == {"jobs": [], "next": None}


def test_no_connection_and_no_tables_are_clear_errors(run):
    assert "adk-oban migrate up" in run("jobs", code=1)
    error = run("jobs", "--dsn", "postgresql://me:secret@127.0.0.1:1/x", code=1)
    assert "cannot connect to" in error
    assert "secret" not in error


def test_settings_come_from_arguments_then_environment_then_a_file(
    run, dsn, prefix, tmp_path
):
    run("migrate", "up")
    (tmp_path / "adk-oban.toml").write_text(f'dsn = "{dsn}"\nprefix = "{prefix}"\n')
    assert run("jobs", ADK_OBAN_DSN="", ADK_OBAN_PREFIX="") == "none\n"
    assert "not migrated" in run("jobs", ADK_OBAN_PREFIX="another", code=1)
    assert run("jobs", "--prefix", prefix, ADK_OBAN_PREFIX="another") == "none\n"

    (tmp_path / "adk-oban.toml").write_text('colour = "red"\n')
    assert "unknown key 'colour'" in run("jobs", code=1)


def test_without_a_dsn_an_embedded_server_is_used_and_named(data):
    def run(*arguments: str) -> Result:
        return CliRunner(env={"ADK_OBAN_DATA": str(data)}).invoke(main, arguments)

    first, second = run("enqueue", "helper", "hi"), run("jobs", "--json")
    assert first.stdout == "job 1 is available in queue agents\n"
    assert str(data) in first.stderr
    assert len(first.stderr.splitlines()) == 1
    assert len(json.loads(second.stdout)["jobs"]) == 1
    assert not (data / "users").exists()


async def run_all(dsn: str, prefix: str) -> None:
    async with AdkOban(dsn, prefix=prefix, agents=["sample_agents"]) as jobs:
        await drain(jobs)


def test_decide_lists_what_is_open_and_takes_a_word(run, letters):
    run("migrate", "up")
    job_id = letters("fail")

    (open_,) = json.loads(run("decide", job_id, "--json"))
    assert (open_["tool"], open_["error"]) == ("send", "OSError: no answer")
    assert "not valid JSON" in run("decide", job_id, "--result", "{", code=1)
    assert "job 99" in run("decide", "99", "--again", code=1)
    run("decide", job_id, "--result", '"sent"')
    assert "has 0 undecided steps" in run("decide", job_id, "--again", code=1)
    letters("drain")
    assert json.loads(run("show", job_id, "--json"))["result"]["text"] == "It is sent."


@pytest.fixture
def letters(dsn: str, prefix: str) -> Callable[[str], str]:
    """Runs jobs of an agent whose tool sends once, and does not know whether it did."""

    @once
    def send() -> str:
        """Send it."""
        raise OSError("no answer")

    model = ScriptedModel(replies=_send_or_say)
    agent = LlmAgent(name="clerk", model=model, tools=[send])

    async def work(what: str) -> str:
        agents = {"clerk": agent}
        async with AdkOban(dsn, prefix=prefix, agents=agents) as jobs:
            if what == "drain":
                return str(await drain(jobs))
            job = await AgentWorker.enqueue("clerk", "u", "hi")
            assert await drain(jobs) == {"scheduled": 1}
            return str(job.id)

    return lambda what: asyncio.run(work(what))


def _send_or_say(request: LlmRequest) -> str | types.Part:
    said = request.contents[-1].parts[-1].function_response
    return call("send") if said is None else f"It is {said.response['result']}."
