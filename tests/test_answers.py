"""Agents find the answers to what they have asked, whatever happened meanwhile."""

from __future__ import annotations

import warnings
from datetime import datetime
from typing import Any

import pytest
from google.adk.agents import SequentialAgent
from google.adk.apps import App, ResumabilityConfig
from google.adk.apps.app import EventsCompactionConfig
from google.adk.apps.llm_event_summarizer import LlmEventSummarizer
from google.adk.tools import AgentTool
from google.adk.tools.tool_context import ToolContext

from adk_oban import now
from adk_oban.testing import ScriptedModel, call
from asking import Bank, Desk, Inbox, agent, payer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Agent is deprecated"),
    pytest.mark.filterwarnings("ignore:The `plugins` argument is deprecated"),
]


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def desk(dsn: str, migrated: str) -> Desk:
    return Desk(dsn, migrated)


def around(inner: Any) -> Any:
    """An agent that has another one in an AgentTool."""
    replies = call(inner.name, request="pay"), "all done"
    return agent("outer", *replies, tools=[AgentTool(inner)])


async def by_oban(inbox: Inbox) -> None:
    await inbox.jobs.oban.cancel_job(inbox.job.id)
    await inbox.jobs.oban.retry_job(inbox.job.id)


async def by_hand(inbox: Inbox) -> None:
    await inbox.job.cancel()
    await inbox.job.retry()


@pytest.mark.parametrize("again", [by_hand, by_oban])
@pytest.mark.parametrize("inside", [False, True])
async def test_what_an_ended_job_asked_is_asked_again_when_it_is_retried(
    desk, bank, again, inside
):
    root = payer(bank)
    async with desk.client(around(root) if inside else root) as jobs:
        inbox = await desk.start(jobs)
        await inbox.asked()
        await again(inbox)

        asked = await inbox.asked()
        assert bank.paid == []

        await inbox.job.approve(asked.id)
        assert await inbox.text() == ("all done" if inside else "done")
        assert bank.paid == [3]


@pytest.mark.parametrize("window", [{"num_recent_events": 1}, {"after_timestamp": 4e9}])
async def test_the_answer_finds_its_question_however_little_is_read(desk, bank, window):
    root = agent("a", "hello", call("pay", amount=3), "done", tools=[bank.confirmed])
    async with desk.client(root) as jobs:
        await (await desk.start(jobs)).text()
        inbox = await desk.start(jobs, runner_opts={"get_session_config": window})
        asked = await inbox.asked()
        await inbox.job.approve(asked.id)

        assert await inbox.text() == "done"
        assert bank.paid == [3]
        before, after = (
            str(r.contents).count("hello") for r in root.model.requests[1:]
        )
        assert before == after


async def test_a_job_whose_question_is_gone_from_its_session_is_cancelled(desk, bank):
    async with desk.client(payer(bank)) as jobs:
        inbox = await desk.start(jobs)
        asked = await inbox.asked()
        await jobs.sessions.delete_session(
            app_name="adk_oban", user_id="u", session_id="s"
        )
        await inbox.job.approve(asked.id)

        assert await inbox.run() == "cancelled"
        assert "session 's' has lost what agent" in inbox.job.errors[-1]["error"]
        assert await inbox.session() is None


async def test_an_unordered_job_of_the_session_may_run_between_question_and_answer(
    desk, bank
):
    root = agent("a", call("pay", amount=3), "other", "done", tools=[bank.confirmed])
    async with desk.client(root) as jobs:
        first = await desk.start(jobs, ordering="none")
        asked = await first.asked()
        second = await desk.start(jobs, ordering="none")
        assert await second.text() == "other"
        await first.job.approve(asked.id)

        assert await first.text() == "done"
        assert bank.paid == [3]
        for inbox, count in ((first, 6), (second, 1)):
            result = await inbox.job.result()
            assert len(result.events) == result.event_count == count


async def test_state_of_every_scope_and_time_go_on_over_a_pause(desk, bank):
    times: list[datetime] = []

    async def note(tool_context: ToolContext) -> str:
        """Count in all scopes."""
        times.append(now())
        for scope in ("", "user:", "app:"):
            count = tool_context.state.get(f"{scope}n", 0)
            tool_context.state[f"{scope}n"] = count + 1
        return "noted"

    both = [call("note"), call("pay", amount=3)]
    root = agent("a", both, call("note"), "done", tools=[bank.confirmed, note])
    async with desk.client(root) as jobs:
        inbox = await desk.start(jobs)
        asked = await inbox.asked()
        assert (await inbox.session()).state == {"n": 1, "user:n": 1, "app:n": 1}
        answered = await inbox.job.approve(asked.id)

        assert await inbox.text() == "done"
        assert (await inbox.session()).state == {"n": 2, "user:n": 2, "app:n": 2}
        assert times[0] < answered.answered_at < times[1]


@pytest.mark.parametrize("resumable", [True, False])
async def test_an_app_of_the_users_own_pauses_whatever_it_says_of_that(
    desk, bank, resumable
):
    root = SequentialAgent(name="root", sub_agents=[payer(bank), agent("b", "all")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = ResumabilityConfig(is_resumable=resumable)
        app = App(name="mine", root_agent=root, resumability_config=config)
    async with desk.client(app) as jobs:
        inbox = await desk.start(jobs)
        await inbox.job.approve((await inbox.asked()).id)

        assert await inbox.text() == "all"
        assert bank.paid == [3]


async def test_a_session_may_be_compacted_between_question_and_answer(desk, bank):
    root = payer(bank)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        summarizer = LlmEventSummarizer(llm=ScriptedModel(replies=["in short"]))
        compaction = EventsCompactionConfig(
            summarizer=summarizer, compaction_interval=1, overlap_size=0
        )
        app = App(name="mine", root_agent=root, events_compaction_config=compaction)
    async with desk.client(app) as jobs:
        inbox = await desk.start(jobs)
        asked = await inbox.asked()
        await inbox.job.approve(asked.id)

        assert await inbox.run() == "completed"
        assert bank.paid == [3]
        session = await inbox.session()
        assert any(event.actions.compaction for event in session.events)
