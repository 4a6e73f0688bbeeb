"""`adk-oban approvals`, `approve`, `reject` and `respond`, on a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from google.adk.tools import LongRunningFunctionTool

from adk_oban.cli import main
from adk_oban.testing import call
from asking import Bank, Desk, Inbox, agent

type Run = Callable[..., str]


@pytest.fixture
def run(dsn: str, prefix: str, tmp_path, monkeypatch) -> Run:
    """Runs a command on migrated tables: run("approve", "1", code=0)."""
    monkeypatch.chdir(tmp_path)
    env = {"ADK_OBAN_DSN": dsn, "ADK_OBAN_PREFIX": prefix, "LOGNAME": "anna"}

    def command(*arguments: str, code: int = 0) -> str:
        done = CliRunner(env=env).invoke(main, arguments)
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else done.stderr

    command("migrate", "up")
    return command


def order(what: str) -> dict[str, str]:
    """Order something that takes its time."""
    return {"status": "pending"}


class Work:
    """A job that asks, and the worker that runs it now and then."""

    def __init__(self, dsn: str, prefix: str, reply: Any) -> None:
        self.bank = Bank()
        tools = [self.bank.confirmed, LongRunningFunctionTool(order)]
        self._desk = Desk(dsn, prefix)
        # It says what it was told last, whatever that was.
        self._root = agent("clerk", tools=tools)
        self._root.model.replies = lambda request: said(request, reply)

    def start(self) -> None:
        """Enqueue the job, and run it until it asks."""
        asyncio.run(self._start())

    def text(self) -> str:
        """Run it to its end."""
        return asyncio.run(self._text())

    async def _start(self) -> None:
        async with self._desk.client(self._root) as jobs:
            self._id = (await self._desk.start(jobs)).job.id
            await Inbox(jobs, await jobs.get_job(self._id)).run()

    async def _text(self) -> str:
        async with self._desk.client(self._root) as jobs:
            return await Inbox(jobs, await jobs.get_job(self._id)).text()


def said(request: Any, reply: Any) -> Any:
    """The reply; and then what came of it."""
    response = request.contents[-1].parts[-1].function_response
    return reply if response is None else json.dumps(response.response)


@pytest.fixture
def pays(run: Run, dsn: str, prefix: str) -> Work:
    """A job that asks whether it may pay 3."""
    work = Work(dsn, prefix, call("pay", amount=3))
    work.start()
    return work


@pytest.fixture
def orders(run: Run, dsn: str, prefix: str) -> Work:
    """A job that waits for what it has ordered."""
    work = Work(dsn, prefix, call("order", what="boat"))
    work.start()
    return work


def test_the_inbox_is_listed_for_people_and_programs(run, pays):
    assert "clerk" in run("approvals")
    (asked,) = json.loads(run("approvals", "--tool", "pay", "--json"))
    assert (asked["id"], asked["job_id"], asked["kind"]) == (1, 1, "confirmation")
    assert (asked["args"], asked["deadline"]) == ({"amount": 3}, None)
    assert asked["asked_at"].endswith("+00:00")
    assert "T" in asked["asked_at"]
    assert json.loads(run("approvals", "--user", "nobody", "--json")) == []


def test_a_yes_lets_the_tool_run(run, pays):
    told = run("approve", "1")
    assert told.startswith(
        "approval 1 (confirmation of pay) was approved by anna; job 1"
    )
    assert pays.text() == '{"paid": 3}'
    assert run("approvals", "--json") == "[]\n"
    (given,) = json.loads(run("approvals", "--state", "all", "--json"))
    assert (given["state"], given["answered_by"]) == ("approved", "anna")


def test_a_yes_may_have_other_args(run, pays):
    answered = json.loads(run("approve", "1", "--args", '{"amount": 2}', "--json"))
    assert answered["edited_args"] == {"amount": 2}
    assert pays.text() == '{"paid": 2}'


def test_a_no_has_a_reason_that_the_agent_reads(run, pays):
    answered = json.loads(run("reject", "1", "--reason", "too much", "--json"))
    assert (answered["state"], answered["reason"]) == ("rejected", "too much")
    assert pays.text() == '{"error": "This tool call is rejected: too much"}'
    assert pays.bank.paid == []


def test_what_a_tool_waits_for_is_given_as_json(run, orders):
    answered = json.loads(
        run("respond", "1", '{"status": "here"}', "--by", "bo", "--json")
    )
    assert (answered["state"], answered["answered_by"]) == ("responded", "bo")
    assert orders.text() == '{"status": "here"}'


@pytest.mark.parametrize(
    "again",
    [("approve", "1"), ("reject", "1"), ("respond", "1", '{"confirmed": true}')],
)
def test_a_second_answer_is_refused_with_who_was_faster(run, pays, again):
    run("reject", "1", "--by", "bo")

    told = run(*again, code=1)

    assert told == (
        "Error: approval 1 cannot be answered any more: it was rejected by 'bo'\n"
    )


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (("approve", "9"), 1, "no approval 9; 'adk-oban approvals' lists them"),
        (("approve", "x"), 2, "'x' is not a valid integer"),
        (("approve", "1", "--args", "{"), 1, "--args is not valid JSON"),
        (("approve", "1", "--args", "[]"), 1, "edited_args must be an object, got []"),
        (("respond", "1", "yes"), 1, "JSON is not valid JSON"),
        (("respond", "1", '"yes"'), 1, "approve() and reject() make one"),
        (("approvals", "--state", "lost"), 1, "state must be one of"),
        (("approvals", "--limit", "0"), 1, "limit must be 1 to 1000, got 0"),
    ],
)  # fmt: skip
def test_a_wrong_answer_changes_nothing(run, pays, command, code, told):
    assert told in run(*command, code=code)
    assert len(json.loads(run("approvals", "--json"))) == 1


def test_a_question_that_takes_no_yes_says_what_it_takes(run, orders):
    told = run("approve", "1", code=1)
    assert "is of kind 'long_running', which a yes does not answer" in told
