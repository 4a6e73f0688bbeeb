"""Agents that ask people, by ADK's own means, and go on with the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.adk.agents import LoopAgent, ParallelAgent, SequentialAgent
from google.adk.events import RequestInput
from google.adk.tools import AgentTool, LongRunningFunctionTool
from google.adk.tools.tool_context import ToolContext
from google.adk.workflow import START, Workflow

from adk_oban import once
from adk_oban.approvals import Approval
from adk_oban.errors import AlreadyAnsweredError, JobFailedError
from adk_oban.testing import call
from asking import Bank, Desk, agent, weeks_later

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Agent is deprecated"),
    pytest.mark.filterwarnings("ignore:The `plugins` argument is deprecated"),
]


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def started(dsn, migrated):
    desk = Desk(dsn, migrated)
    return desk.client, desk.start


async def test_a_confirmed_tool_runs_and_its_agent_goes_on_as_the_same_job(
    started, bank
):
    client, start = started
    root = agent("lone", call("pay", amount=3), "done", tools=[bank.confirmed])
    async with client(root) as jobs:
        inbox = await start(jobs)
        assert await inbox.run() == "scheduled"
        (asked,) = await inbox.open()
        assert (asked.kind, asked.agent, asked.tool) == ("confirmation", "lone", "pay")
        assert (asked.args, bank.paid) == ({"amount": 3}, [])

        answered = await inbox.job.approve(asked.id, by="anna")

        assert (answered.state, answered.answered_by) == ("approved", "anna")
        assert await inbox.text() == "done"
        assert bank.paid == [3]
        result = await inbox.job.result()
        assert (result.attempts, result.model_calls, result.event_count) == (1, 2, 6)
        assert len(result.events) >= 5


async def test_a_rejected_tool_does_not_run_and_its_agent_reads_why(started, bank):
    client, start = started
    root = agent("lone", call("pay", amount=3), "a pity", tools=[bank.confirmed])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()

        await inbox.job.reject(asked.id, "too much")

        assert await inbox.text() == "a pity"
        assert bank.paid == []
        contents = str(root.model.requests[-1].contents)
        assert "rejected: too much" in contents


async def test_a_tool_runs_with_the_args_that_a_person_edited(started, bank):
    client, start = started
    root = agent("lone", call("pay", amount=300), "done", tools=[bank.confirmed])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()

        await inbox.job.approve(asked.id, edited_args={"amount": 3})

        assert await inbox.text() == "done"
        assert bank.paid == [3]


async def test_questions_asked_together_are_answered_one_by_one(started, bank):
    client, start = started
    calls = [call("pay", amount=1), call("pay", amount=2)]
    root = agent("two", calls, "done", tools=[bank.confirmed])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        first, second = await inbox.open()

        await inbox.job.approve(second.id, by="bob")
        assert await inbox.run() == "scheduled"
        await inbox.job.reject(first.id, by="anna")

        assert await inbox.text() == "done"
        assert bank.paid == [2]


async def test_agents_side_by_side_are_each_told_their_answer(started, bank):
    client, start = started
    tools = [bank.confirmed]
    one = agent("one", call("pay", amount=1), "one done", tools=tools)
    two = agent("two", call("pay", amount=2), "two done", tools=tools)
    both = ParallelAgent(name="both", sub_agents=[one, two, agent("three", "third")])
    last = agent("last", "all done")
    root = SequentialAgent(name="root", sub_agents=[both, last])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        for asked in await inbox.open():
            await inbox.job.approve(asked.id)

        assert await inbox.text() == "all done"
        assert sorted(bank.paid) == [1, 2]


async def test_the_rest_of_a_sequence_runs_after_the_answer(started, bank):
    client, start = started
    first = agent("first", call("pay", amount=1), "first", tools=[bank.confirmed])
    root = SequentialAgent(name="root", sub_agents=[first, agent("second", "second")])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        await inbox.job.approve(asked.id)

        assert await inbox.text() == "second"


async def test_an_agent_may_ask_again_and_again(started, bank):
    client, start = started
    replies = [call("pay", amount=1), "one", call("pay", amount=2), "two"]
    body = agent("body", *replies, tools=[bank.confirmed])
    root = LoopAgent(name="loop", sub_agents=[body], max_iterations=2)
    async with client(root) as jobs:
        inbox = await start(jobs)
        for _ in range(2):
            await inbox.run()
            (asked,) = await inbox.open()
            await inbox.job.approve(asked.id)

        assert await inbox.text() == "two"
        assert bank.paid == [1, 2]


async def test_a_long_running_tool_is_answered_with_what_came_of_it(started):
    def ask(question: str) -> dict[str, str]:
        """Ask."""
        return {"ticket": "T-1"}

    client, start = started
    root = agent(
        "a", call("ask", question="?"), "waiting", "it is 42",
        tools=[LongRunningFunctionTool(ask)],
    )  # fmt: skip
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        assert (asked.kind, asked.args) == ("long_running", {"question": "?"})

        await inbox.job.respond(asked.id, {"answer": 42})

        assert await inbox.text() == "it is 42"
        assert "'answer': 42" in str(root.model.requests[-1].contents)


async def test_a_node_gets_the_input_that_it_requested(started):
    runs: list[str] = []

    async def first(node_input: Any) -> Any:
        runs.append("first")
        yield RequestInput(interrupt_id="q", message="Which?", payload={"of": "two"})

    def second(node_input: str) -> str:
        return f"got {node_input}"

    client, start = started
    async with client(Workflow(name="g", edges=[(START, first, second)])) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        assert (asked.kind, asked.hint, asked.args) == (
            "input", "Which?", {"of": "two"},
        )  # fmt: skip

        await inbox.job.respond(asked.id, "this")
        assert await inbox.run() == "completed"

        assert (await inbox.job.result()).output == "got this"
        assert runs == ["first"]


async def test_a_question_inside_agent_tool_is_asked_and_answered(started, bank):
    client, start = started
    inner = agent("inner", call("pay", amount=5), "inner done", tools=[bank.confirmed])
    outer = agent(
        "outer", call("inner", request="pay"), "all", tools=[AgentTool(inner)]
    )
    async with client(outer) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        assert (asked.agent, asked.tool, asked.args) == ("inner", "pay", {"amount": 5})

        await inbox.job.approve(asked.id, edited_args={"amount": 4})

        assert await inbox.text() == "all"
        assert bank.paid == [4]
        assert len(inner.model.requests) == 2


async def test_a_tool_may_ask_for_more_than_a_yes(started):
    async def book(tool_context: ToolContext) -> dict[str, Any]:
        """Book."""
        if tool_context.tool_confirmation is None:
            tool_context.request_confirmation(hint="Which day?", payload={"day": ""})
            return {"status": "asked"}
        return {"booked": tool_context.tool_confirmation.payload["day"]}

    client, start = started
    root = agent("a", call("book"), "done", tools=[book])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        assert asked.hint == "Which day?"

        await inbox.job.approve(asked.id, payload={"day": "Monday"})

        assert await inbox.text() == "done"
        assert "Monday" in str(root.model.requests[-1].contents)


async def test_the_first_answer_wins_and_the_second_gets_a_clear_error(started, bank):
    client, start = started
    root = agent("a", call("pay", amount=3), "done", tools=[bank.confirmed])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        answers = [inbox.job.approve(asked.id, by=name) for name in ("anna", "bob")]

        first, second = sorted(
            await asyncio.gather(*answers, return_exceptions=True), key=str
        )

        assert isinstance(second, Approval | AlreadyAnsweredError)
        error = next(e for e in (first, second) if isinstance(e, Exception))
        assert isinstance(error, AlreadyAnsweredError)
        assert error.state == "approved"
        assert error.answered_by in ("anna", "bob")


async def test_answers_of_many_people_at_once_wake_the_job_once(started, bank):
    client, start = started
    calls = [call("pay", amount=n) for n in range(5)]
    root = agent("a", calls, "done", tools=[bank.confirmed])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()

        await asyncio.gather(
            *(inbox.job.approve(asked.id) for asked in await inbox.open())
        )

        assert (await inbox.job.reload()).state == "available"
        assert await inbox.text() == "done"
        assert sorted(bank.paid) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("default", "state", "paid"),
    [("reject", "completed", []), ("approve", "completed", [3])],
)
async def test_a_question_nobody_answers_in_time_gets_its_default(
    started, bank, conn, migrated, default, state, paid
):
    client, start = started
    root = agent("a", call("pay", amount=3), "done", tools=[bank.confirmed])
    async with client(root) as jobs:
        inbox = await start(jobs, approval_timeout=60, on_approval_timeout=default)
        await inbox.run()
        (asked,) = await inbox.open()
        assert 50 < (asked.deadline - asked.asked_at).total_seconds() <= 60
        await weeks_later(conn, migrated)

        assert await inbox.run() == state
        assert bank.paid == paid
        (given,) = await jobs.approvals(state=None)
        assert given.answered_by == "deadline"


async def test_a_question_nobody_answers_in_time_may_cancel_its_job(
    started, bank, conn, migrated
):
    client, start = started
    root = agent("a", call("pay", amount=3), "done", tools=[bank.confirmed])
    async with client(root, approval_timeout=60, on_approval_timeout="cancel") as jobs:
        inbox = await start(jobs)
        await inbox.run()
        await weeks_later(conn, migrated)

        assert await inbox.run() == "cancelled"
        with pytest.raises(JobFailedError, match="nobody answered approval"):
            await inbox.job.result()
        assert bank.paid == []


async def test_an_answer_after_the_deadline_is_refused(started, bank, conn, migrated):
    client, start = started
    root = agent("a", call("pay", amount=3), "done", tools=[bank.confirmed])
    async with client(root, approval_timeout=60) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        await weeks_later(conn, migrated)

        with pytest.raises(AlreadyAnsweredError, match="deadline has passed"):
            await inbox.job.approve(asked.id)


async def test_a_job_that_is_made_available_by_hand_goes_on_waiting(started, bank):
    client, start = started
    root = agent("a", call("pay", amount=3), "done", tools=[bank.confirmed])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        await jobs.oban.retry_job(inbox.job.id)

        assert await inbox.run() == "scheduled"
        (asked,) = await inbox.open()
        await inbox.job.approve(asked.id)
        assert await inbox.text() == "done"


async def test_the_questions_of_a_cancelled_job_are_withdrawn(started, bank):
    client, start = started
    root = agent("a", call("pay", amount=3), "done", tools=[bank.confirmed])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        await jobs.oban.cancel_job(inbox.job.id)

        assert await inbox.open() == []
        with pytest.raises(AlreadyAnsweredError, match="withdrawn"):
            await inbox.job.approve(asked.id)


async def test_a_later_job_of_the_session_waits_for_one_that_is_paused(started, bank):
    client, start = started
    root = agent("a", call("pay", amount=3), "one", "two", tools=[bank.confirmed])
    async with client(root) as jobs:
        first = await start(jobs)
        await first.run()
        second = await start(jobs)
        assert await second.run() == "scheduled"
        (asked,) = await first.open()
        await first.job.approve(asked.id)

        assert (await first.text(), await second.text()) == ("one", "two")


async def test_a_crash_after_the_answer_pays_nothing_twice(started, bank):
    client, start = started
    replies = [call("pay", amount=3), ConnectionError("down"), "done"]
    root = agent("a", *replies, tools=[bank.confirmed])
    async with client(root, backoff=lambda _job: 0) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        await inbox.job.approve(asked.id)

        assert await inbox.text() == "done"
        assert bank.paid == [3]
        session = await jobs.sessions.get_session(
            app_name="adk_oban", user_id="u", session_id="s"
        )
        told = [e for e in session.events if e.author == "user"]
        assert len(told) == 2


async def test_a_session_without_a_pause_has_no_notes_of_where_agents_are(started):
    client, start = started
    root = SequentialAgent(name="root", sub_agents=[agent("b", "one"), agent("c", "2")])
    async with client(root) as jobs:
        await (await start(jobs)).text()
        session = await jobs.sessions.get_session(
            app_name="adk_oban", user_id="u", session_id="s"
        )
        assert len(session.events) == 3


async def test_what_happened_to_a_tool_that_runs_once_is_asked_in_the_inbox(started):
    tries: list[str] = []

    @once
    async def send(to: str) -> str:
        """Send."""
        tries.append(to)
        raise ConnectionError("cut")

    client, start = started
    root = agent("a", call("send", to="bob"), "sent", tools=[send])
    async with client(root) as jobs:
        inbox = await start(jobs)
        assert await inbox.run() == "scheduled"
        (asked,) = await inbox.open()
        assert (asked.kind, asked.tool) == ("decision", "send")
        assert "cut" in asked.hint

        await inbox.job.respond(asked.id, "it was sent", by="anna")

        assert await inbox.text() == "sent"
        assert tries == ["bob"]
        (given,) = await jobs.approvals(state="responded")
        assert given.answered_by == "anna"


async def test_a_decision_by_the_steps_number_is_in_the_inbox_as_well(started):
    tries: list[int] = []

    @once
    async def send() -> str:
        """Send."""
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("cut")
        return "sent"

    client, start = started
    async with client(agent("a", call("send"), "done", tools=[send])) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (step,) = await inbox.job.undecided()
        await inbox.job.decide(step.id, again=True)

        assert await inbox.open() == []
        assert await inbox.text() == "done"
        assert len(tries) == 2


async def test_two_questions_inside_agent_tool_come_one_after_another(started, bank):
    client, start = started
    calls = [call("pay", amount=1), call("pay", amount=2)]
    inner = agent("inner", calls, "inner done", tools=[bank.confirmed])
    outer = agent("o", call("inner", request="pay"), "all", tools=[AgentTool(inner)])
    async with client(outer) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        await inbox.job.approve(asked.id)
        await inbox.run()
        (asked,) = await inbox.open()
        await inbox.job.reject(asked.id, "no")

        assert await inbox.text() == "all"
        assert len(bank.paid) == 1
        assert "rejected: no" in str(inner.model.requests[-1].contents)


async def test_a_long_running_tool_inside_agent_tool_is_answered_too(started):
    asked_for: list[str] = []

    def ask(question: str) -> None:
        """Ask."""
        asked_for.append(question)

    client, start = started
    inner = agent(
        "inner",
        call("ask", question="?"),
        "inner done",
        tools=[LongRunningFunctionTool(ask)],
    )
    outer = agent("o", call("inner", request="x"), "all", tools=[AgentTool(inner)])
    async with client(outer) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()
        await inbox.job.respond(asked.id, {"answer": 42})

        assert await inbox.text() == "all"
        assert asked_for == ["?"]
        assert "'answer': 42" in str(inner.model.requests[-1].contents)


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (lambda job, id: job.approve(id + 1), LookupError, "has no approval"),
        (lambda job, id: job.approve(id, payload={1}), ValueError, "payload cannot"),
        (lambda job, id: job.approve(id, edited_args=[]), TypeError, "edited_args"),
        (lambda job, id: job.respond(id, "yes"), TypeError, "must be an object"),
        (lambda job, id: job.respond(id, {"ok": 1}), ValueError, "response"),
        (lambda job, id: job.reject(id, 7), TypeError, "reason must be a string"),
        (lambda job, id: job.reject(id, "\x00"), ValueError, "NUL"),
        (lambda job, id: job.approve(id, by=5), TypeError, "by must be a string"),
        (lambda job, id: job.approve(id, by="\ud800"), ValueError, "surrogate"),
        (lambda job, id: job.approve(id, by="x" * 129), ValueError, "at most 128"),
        (lambda job, id: job.approve("1"), TypeError, "by its id"),
        (lambda job, id: job.approve(2**70), LookupError, "has no approval"),
    ],
)
async def test_a_wrong_answer_is_refused_and_the_question_stays(
    started, bank, answer, error, says
):
    client, start = started
    root = agent("a", call("pay", amount=3), "done", tools=[bank.confirmed])
    async with client(root) as jobs:
        inbox = await start(jobs)
        await inbox.run()
        (asked,) = await inbox.open()

        with pytest.raises(error, match=says):
            await answer(inbox.job, asked.id)

        assert len(await inbox.open()) == 1
