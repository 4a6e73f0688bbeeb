"""What happens to jobs and sessions while a job waits for people."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from fastapi.openapi.models import APIKey
from google.adk.auth import AuthConfig, AuthCredential
from google.adk.tools import LongRunningFunctionTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext

from adk_oban._cancels import Cancels
from adk_oban._leftovers import Leftovers
from adk_oban._steps import Owner
from adk_oban._turns import Turns
from adk_oban.errors import AlreadyAnsweredError
from adk_oban.testing import call, drain
from asking import Bank, Desk, agent, payer, weeks_later

# ADK calls what it does itself deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:google.adk")


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def desk(dsn: str, migrated: str) -> Desk:
    return Desk(dsn, migrated)


@pytest.mark.parametrize("answered", [False, True])
async def test_no_message_is_merged_into_a_job_that_has_asked(desk, bank, answered):
    async with desk.client(payer(bank, "hello")) as jobs:
        inbox = await desk.start(jobs, when_busy="merge")
        asked = await inbox.asked()
        if answered:
            await inbox.job.approve(asked.id)

        other = await desk.start(jobs, when_busy="merge")

        assert other.job.id != inbox.job.id
        if not answered:
            await inbox.job.approve(asked.id)
        assert (await inbox.text(), await other.text()) == ("done", "hello")


async def test_the_questions_of_a_job_that_is_deleted_are_withdrawn(
    desk, bank, conn, migrated
):
    async with desk.client(payer(bank)) as jobs:
        asked = await (await desk.start(jobs)).asked()
        await conn.execute(f"DELETE FROM {migrated}.oban_jobs")

        assert (await jobs.get_approval(asked.id)).state == "withdrawn"


async def test_a_deadline_cancels_the_job_also_if_its_worker_dies_on_the_way(
    desk, bank, conn, migrated
):
    deadline = {"approval_timeout": 60, "on_approval_timeout": "cancel"}
    async with desk.client(payer(bank), **deadline) as jobs:
        inbox = await desk.start(jobs)
        asked = await inbox.asked()
        await weeks_later(conn, migrated)
        begin = f"UPDATE {migrated}.oban_jobs SET state = 'executing' "
        found = await conn.execute(f"{begin} RETURNING id, attempted_at, attempt")
        owner = Owner(*await found.fetchone())

        # The first one dies before it has cancelled the job.
        ends = [await jobs._running.approvals.settle(owner) for _ in range(2)]

        assert [(end, found.id) for end, found in ends] == [("cancel", asked.id)] * 2


async def test_a_job_cancelled_by_a_deadline_may_be_retried_and_answered(
    desk, bank, conn, migrated
):
    deadline = {"approval_timeout": 60, "on_approval_timeout": "cancel"}
    async with desk.client(payer(bank), **deadline) as jobs:
        inbox = await desk.start(jobs)
        await inbox.asked()
        await weeks_later(conn, migrated)
        assert await inbox.run() == "cancelled"
        await inbox.job.retry()

        asked = await inbox.asked()
        assert asked.deadline > datetime.now(UTC)

        await inbox.job.approve(asked.id)
        assert await inbox.text() == "done"


async def test_a_credential_that_nobody_gives_in_time_cancels_the_job(
    desk, conn, migrated
):
    scheme = APIKey.model_validate({"in": "header", "name": "key"})
    wanted = AuthConfig(auth_scheme=scheme, raw_auth_credential=None)

    async def read(tool_context: ToolContext) -> str:
        """Read."""
        tool_context.request_credential(wanted)
        return "pending"

    root = agent("a", call("read"), tools=[read])
    async with desk.client(root, approval_timeout=60) as jobs:
        inbox = await desk.start(jobs)
        assert (await inbox.asked()).kind == "credential"
        await weeks_later(conn, migrated)

        assert await inbox.run() == "cancelled"
        assert "nobody answered" in inbox.job.errors[-1]["error"]


async def test_a_credential_is_given_by_filling_in_what_was_asked(desk):
    scheme = APIKey.model_validate({"in": "header", "name": "key"})
    own = AuthCredential(
        auth_type="oauth2", oauth2={"client_id": "me", "client_secret": "mine"}
    )
    wanted = AuthConfig(auth_scheme=scheme, raw_auth_credential=own, credential_key="k")
    got: list[Any] = []

    async def read(tool_context: ToolContext) -> str:
        """Read."""
        given = tool_context.get_auth_response(wanted)
        if given is None:
            tool_context.request_credential(wanted)
            return "pending"
        got.append(given.api_key)
        return "read"

    async with desk.client(agent("a", call("read"), "done", tools=[read])) as jobs:
        inbox = await desk.start(jobs)
        asked = await inbox.asked()
        config = asked.payload["authConfig"]
        assert "mine" not in str(asked.payload)
        key = {"authType": "apiKey", "apiKey": "s3cret"}

        given = await inbox.job.respond(
            asked.id, {**config, "exchangedAuthCredential": key}
        )

        assert (given.response, await inbox.text(), got) == (None, "done", ["s3cret"])
        told = str([event async for event in inbox.job.events()])
        assert "***" not in str((await inbox.session()).events)
        assert "answered" in told


@pytest.mark.parametrize("answered", [False, True])
async def test_a_pause_whose_commit_was_not_answered_is_made_once(
    desk, bank, monkeypatch, answered
):
    real, lost = Turns.commit, []

    async def lossy(self: Any, landings: Any) -> Any:
        landed = await real(self, landings)
        if lost:
            return landed
        lost.append(landed)
        if answered:
            (asked,) = await inbox.open()
            await inbox.job.approve(asked.id)
        raise psycopg.OperationalError("the server closed the connection")

    monkeypatch.setattr(Turns, "commit", lossy)
    async with desk.client(payer(bank)) as jobs:
        inbox = await desk.start(jobs, max_attempts=1)
        if not answered:
            await inbox.job.approve((await inbox.asked()).id)

        assert await inbox.text() == "done"
        assert (bank.paid, len(lost)) == ([3], 1)


async def test_an_agent_waits_although_another_call_was_answered(desk):
    ran: list[str] = []

    def ask(question: str) -> None:
        """Ask somebody."""

    def look(place: str) -> str:
        """Look."""
        ran.append(place)
        return "fine"

    both = [call("ask", question="?"), call("look", place="north")]
    tools = [LongRunningFunctionTool(ask), look]
    root = agent("a", both, call("look", place="south"), "done", tools=tools)
    async with desk.client(root) as jobs:
        inbox = await desk.start(jobs)
        asked = await inbox.asked()
        assert (ran, len(root.model.requests)) == (["north"], 1)

        await inbox.job.respond(asked.id, {"answer": 42})
        assert await inbox.text() == "done"
        assert ran == ["north", "south"]
        assert (await inbox.job.result()).model_calls == 3


async def test_who_answers_and_who_cancels_at_once_get_one_end(desk, bank):
    async with desk.client(payer(bank)) as jobs:
        inbox = await desk.start(jobs)
        asked = await inbox.asked()

        answer, _ = await asyncio.gather(
            inbox.job.approve(asked.id), inbox.job.cancel(), return_exceptions=True
        )

        assert await inbox.run() == "cancelled"
        refused = isinstance(answer, AlreadyAnsweredError)
        state = (await jobs.get_approval(asked.id)).state
        assert state == ("withdrawn" if refused else "approved")
        assert bank.paid == []


async def test_pauses_use_up_no_attempts(desk, bank):
    amounts = [call("pay", amount=n) for n in (1, 2, 3)]
    root = agent("a", *amounts, "done", tools=[bank.confirmed])
    async with desk.client(root) as jobs:
        inbox = await desk.start(jobs, max_attempts=1)
        for _ in amounts:
            await inbox.job.approve((await inbox.asked()).id)

        assert await inbox.text() == "done"
        result = await inbox.job.result()
        assert (result.attempts, result.model_calls) == (1, 4)
        assert result.event_count == len(result.events) == 14
        assert (result.steps["live"], result.steps["replayed"]) == (7, 0)


@pytest.mark.parametrize("keep", [True, False])
async def test_a_call_of_a_cancelled_job_that_nobody_answers_has_an_end(desk, keep):
    def order(what: str) -> None:
        """Order it."""

    tools = [LongRunningFunctionTool(order)]
    root = agent("a", call("order", what="tea"), "next", tools=tools)
    async with desk.client(root) as jobs:
        inbox = await desk.start(jobs)
        await inbox.asked()
        await inbox.job.cancel(keep=keep)

        assert await (await desk.start(jobs)).text() == "next"
        sent = [p for c in root.model.requests[-1].contents for p in c.parts]
        (asked,) = [p.function_call for p in sent if p.function_call]
        (told,) = [p.function_response for p in sent if p.function_response]
        assert told.name == asked.name == "order"
        assert "nobody answered" in told.response["error"]


async def test_a_job_that_was_cancelled_while_it_waited_may_go_on_after_all(desk):
    def order(what: str) -> None:
        """Order it."""

    tools = [LongRunningFunctionTool(order)]
    root = agent("a", call("order", what="tea"), "it came", tools=tools)
    async with desk.client(root) as jobs:
        inbox = await desk.start(jobs)
        asked = await inbox.asked()
        await inbox.job.cancel()
        await (await inbox.job.reload()).retry()
        await inbox.job.respond(asked.id, {"came": True})

        assert await inbox.text() == "it came"
        assert "'came': True" in str(root.model.requests[-1].contents)


@pytest.mark.parametrize("how", ["deadline", "sql"])
async def test_however_a_job_ends_its_open_call_has_an_end(desk, conn, migrated, how):
    def order(what: str) -> None:
        """Order it."""

    tools = [LongRunningFunctionTool(order)]
    root = agent("a", call("order", what="tea"), "next", tools=tools)
    deadline = {"approval_timeout": 60, "on_approval_timeout": "cancel"}
    async with desk.client(root, **deadline) as jobs:
        inbox = await desk.start(jobs)
        await inbox.asked()
        if how == "deadline":
            await weeks_later(conn, migrated)
            assert await inbox.run() == "cancelled"
        else:
            await conn.execute(f"UPDATE {migrated}.oban_jobs SET state = 'cancelled'")

        assert await (await desk.start(jobs)).text() == "next"
        assert "nobody answered" in str(root.model.requests[-1].contents)


async def test_a_job_that_was_rolled_back_begins_anew_when_it_is_retried(desk, bank):
    async with desk.client(payer(bank, call("pay", amount=4), "paid")) as jobs:
        inbox = await desk.start(jobs)
        await inbox.asked()
        other = await desk.start(jobs, when_busy="rollback")
        assert await other.run() == "completed"
        inbox.job = await (await inbox.job.reload()).retry()

        asked = await inbox.asked()
        await inbox.job.approve(asked.id)

        assert await inbox.run() == "completed"
        assert bank.paid == [4]


async def test_a_turn_that_lands_before_its_rollback_stays(desk, bank, monkeypatch):
    async with desk.client(payer(bank, "next")) as jobs:
        inbox = await desk.start(jobs)
        await inbox.job.approve((await inbox.asked()).id)
        cancel = Cancels.cancel

        async def late(self: Cancels, ids: Any, **options: Any) -> list[int]:
            await inbox.text()
            return await cancel(self, ids, **options)

        monkeypatch.setattr(Cancels, "cancel", late)
        await desk.start(jobs, when_busy="rollback")

        assert inbox.job.state == "completed"
        assert (await inbox.session()).events


async def test_a_message_is_not_merged_into_a_job_that_was_handed_back(
    desk, conn, migrated
):
    root = agent("a", call("look"), OSError("down"), "one", "two", tools=[Look()])
    async with desk.client(root, backoff=lambda _job: 60) as jobs:
        inbox = await desk.start(jobs, when_busy="merge")
        await drain(jobs, with_scheduled=False)
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET state = 'available', attempt = 0"
        )

        assert (await desk.start(jobs, when_busy="merge")).job.id != inbox.job.id


async def test_what_happened_in_a_long_job_is_kept_for_a_while_after_its_end(
    desk, bank, conn, migrated
):
    async with desk.client(payer(bank)) as jobs:
        inbox = await desk.start(jobs)
        asked = await inbox.asked()
        for table, column in (("oban_jobs", "inserted_at"), ("adk_oban_events", "at")):
            await conn.execute(
                f"UPDATE {migrated}.{table} SET {column} = {column} - interval '2 days'"
            )
        await inbox.job.approve(asked.id)
        await inbox.text()
        told = [event.cursor async for event in inbox.job.events()]

        leftovers = Leftovers(jobs._running.pool, migrated)
        await leftovers.prune(timedelta(days=7), timedelta(days=1))

        assert [event.cursor async for event in inbox.job.events()] == told


async def test_a_node_of_the_version_before_leaves_a_job_that_has_paused(
    desk, bank, conn, migrated
):
    async with desk.client(payer(bank)) as jobs:
        await (await desk.start(jobs)).asked()
        found = await conn.execute(f"SELECT version FROM {migrated}.adk_oban_steps")

        # It reads version 1, and lets a job wait whose steps have another.
        assert {version for (version,) in await found.fetchall()} == {2}


class Look(BaseTool):
    """A tool that looks."""

    def __init__(self) -> None:
        super().__init__(name="look", description="Look.")

    async def run_async(self, **_: Any) -> str:
        return "seen"
