"""Messages for sessions that are busy, and keys under which one job is enqueued."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from google.adk.agents import LlmAgent
from google.adk.events import Event, EventActions
from google.adk.models.llm_request import LlmRequest
from google.adk.tools import FunctionTool, ToolContext
from google.genai import types
from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from adk_oban import AdkOban, AgentWorker, _oban
from adk_oban._arrival import Ahead, under_way
from adk_oban.errors import JobFailedError, SessionBusyError
from adk_oban.scheduled import ScheduledJob
from adk_oban.testing import ScriptedModel, call, drain
from attempts import SESSION, Runs, enqueue

said: list[list[str]] = []
gates: dict[str, asyncio.Event] = {}


@pytest.fixture
def run(dsn, migrated):
    said.clear()
    gates.clear()
    return Runs(dsn, migrated)


@pytest.fixture
async def other(dsn):
    """Another connection, whose transactions are the test's."""
    async with await AsyncConnection.connect(dsn) as conn:
        yield conn


def reply(request: LlmRequest) -> object:
    texts = [part.text for part in request.contents[-1].parts]
    said.append(texts)
    return OSError("down") if texts == ["fails"] else f"to {' and '.join(texts)}"


async def hold(callback_context) -> None:
    """Let a message that is a gate's name wait until it is opened."""
    text = callback_context.user_content.parts[0].text
    if text in gates:
        said.append([f"{text} began"])
        await gates[text].wait()


AGENT = LlmAgent(
    name="a", model=ScriptedModel(replies=reply), before_agent_callback=hold
)


async def next_one(jobs) -> str | None:
    return await _oban.run_next(jobs.oban, "agents")


async def texts_of(jobs) -> list[str]:
    session = await jobs.sessions.get_session(**SESSION)
    events = [] if session is None else session.events
    return [part.text for e in events if e.content for part in e.content.parts]


async def messages(conn, prefix) -> list[str]:
    sql = f"SELECT args ->> 'message' FROM {prefix}.oban_jobs ORDER BY id"
    return [text for (text,) in await (await conn.execute(sql)).fetchall()]


async def states(*jobs) -> list[str]:
    return [(await job.reload()).state for job in jobs]


async def until(true) -> None:
    async with asyncio.timeout(20):
        while not await true():
            await asyncio.sleep(0.01)


async def begun(gate: str) -> None:
    async def began() -> bool:
        return [f"{gate} began"] in said

    await until(began)


# Reject


async def test_a_message_for_a_busy_session_is_refused(run):
    async with run.client(AGENT) as jobs:
        first, second = await enqueue("1"), await enqueue("2")
        with pytest.raises(SessionBusyError, match="busy with job 1 and 1 more") as no:
            await enqueue("3", when_busy="reject")
        assert no.value.job_ids == (first.id, second.id)
        assert no.value.session_id == "s"
        await drain(jobs)
        assert (await enqueue("3", when_busy="reject")).state == "available"


async def test_another_session_user_or_app_is_not_busy(run):
    async with run.client(AGENT):
        await enqueue("1")
        await enqueue("2", session_id="t", when_busy="reject")
        await enqueue("3", app_name="other", when_busy="reject")
        given = {"app_name": "app", "session_id": "s", "when_busy": "reject"}
        await AgentWorker.enqueue("a", "v", "4", **given)


async def test_what_holds_nobody_up_makes_nobody_busy(run):
    async with run.client(AGENT):
        await enqueue("later", schedule_in=3600)
        await enqueue("free", ordering="none")
        assert (await enqueue("now", when_busy="reject")).state == "available"


async def test_of_many_at_once_one_is_not_refused(run):
    async with run.client(AGENT):
        many = [enqueue(f"{n}", when_busy="reject") for n in range(20)]
        done = await asyncio.gather(*many, return_exceptions=True)
    assert sum(isinstance(each, SessionBusyError) for each in done) == 19


async def test_a_refused_message_waits_for_the_transaction_before_it(run, other):
    async with run.client(AGENT):
        await enqueue("1", when_busy="reject", conn=other)
        second = asyncio.create_task(enqueue("2", when_busy="reject"))
        await waits_for_a_lock(other)
        await other.rollback()
        assert (await second).state == "available"


async def waits_for_a_lock(conn) -> None:
    """Wait until somebody waits for a lock of this connection's transaction."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    pid = conn.info.backend_pid

    async def waits() -> bool:
        await conn.execute("SELECT pg_stat_clear_snapshot()")
        rows = await conn.execute(sql, [pid])
        return (await rows.fetchone())[0] > 0

    await until(waits)


async def test_without_a_transaction_the_message_is_there_at_once(run, conn):
    async with run.client(AGENT):
        first = await enqueue("1", when_busy="reject", unique="k", conn=conn)
        assert (await first.reload()).state == "available"
        with pytest.raises(SessionBusyError):
            await enqueue("2", when_busy="reject", unique="l", conn=conn)
        async with conn.cursor() as cursor:
            again = await enqueue("1", unique="k", conn=cursor)
        assert again.id == first.id


# Interrupt and rollback


NOON = datetime(2030, 1, 1, 12)


@pytest.mark.parametrize(
    ("ahead", "under_way_id"),
    [
        ([], None),
        ([(1, False, 0, False), (2, False, 0, False)], None),
        # The first one runs, or waits; the second only sees that it must wait.
        ([(1, True, 0, False), (2, True, 1, False)], 1),
        ([(1, False, 0, True), (2, True, 1, False)], 1),
        # The first one was planned, and comes due while the second runs.
        ([(1, True, 1, False), (2, True, 0, False)], 2),
        ([(1, True, 1, False), (2, True, 0, True)], 2),
        # The second waits for its retry, and for the first one.
        ([(1, True, 0, False), (2, False, 0, True)], 1),
    ],
)
def test_the_job_under_way_is_told_from_those_that_look(ahead, under_way_id):
    jobs = [
        Ahead(id, runs, NOON + timedelta(seconds=at), begun)
        for id, runs, at, begun in ahead
    ]
    found = under_way(jobs)
    assert (found and found.id) == under_way_id


@pytest.mark.parametrize(
    ("when_busy", "left"),
    [
        ("interrupt", ["slow", "stop", "to stop", "2", "to 2"]),
        ("rollback", ["stop", "to stop", "2", "to 2"]),
    ],
)
async def test_what_runs_is_stopped_and_the_message_is_next(run, when_busy, left):
    gates["slow"] = asyncio.Event()
    async with run.client(AGENT, queues={"agents": 5}) as jobs:
        slow = await enqueue("slow")
        await begun("slow")
        waits = await enqueue("2")
        stop = await enqueue("stop", when_busy=when_busy)
        await stop.result(timeout=20)
        await waits.result(timeout=20)
        with pytest.raises(JobFailedError, match=f"by job {stop.id}"):
            await slow.result(timeout=20)
        assert await texts_of(jobs) == left


async def test_what_waits_is_not_stopped_and_stays_in_its_order(run):
    async with run.client(AGENT) as jobs:
        waiting = [await enqueue("1"), await enqueue("2")]
        await enqueue("first", when_busy="interrupt")
        await drain(jobs, with_scheduled=False)
        assert await states(*waiting) == ["completed", "completed"]
    assert said == [["first"], ["1"], ["2"]]


async def test_of_those_that_interrupt_the_latest_is_first(run):
    async with run.client(AGENT) as jobs:
        await enqueue("1")
        await enqueue("2", when_busy="interrupt")
        await enqueue("3", when_busy="rollback")
        await enqueue("4")
        await drain(jobs, with_scheduled=False)
    assert said == [["3"], ["2"], ["1"], ["4"]]


async def test_one_that_waits_for_its_retry_is_stopped_too(run):
    async with run.client(AGENT, backoff=lambda _job: 3600) as jobs:
        failed = await enqueue("fails")
        await next_one(jobs)
        await enqueue("go on", when_busy="interrupt")
        assert await states(failed) == ["cancelled"]
        await drain(jobs, with_scheduled=False)
        assert await texts_of(jobs) == ["go on", "to go on"]


async def test_what_is_stopped_goes_on_when_the_transaction_is_rolled_back(run, other):
    gates["slow"] = asyncio.Event()
    async with run.client(AGENT, queues={"agents": 5}):
        slow = await enqueue("slow")
        await begun("slow")
        await enqueue("stop", when_busy="interrupt", conn=other)
        await other.rollback()
        gates["slow"].set()
        assert (await slow.result(timeout=20)).text == "to slow"
        assert said[-1] == ["slow"]


async def test_what_runs_is_stopped_when_the_transaction_is_committed(run, other):
    gates["slow"] = asyncio.Event()
    async with run.client(AGENT, queues={"agents": 5}):
        slow = await enqueue("slow")
        await begun("slow")
        stop = await enqueue("stop", when_busy="rollback", conn=other)
        assert await states(slow) == ["executing"]
        await other.commit()
        await stop.result(timeout=20)
        assert await states(slow) == ["cancelled"]


async def test_a_session_that_is_not_busy_is_not_interrupted(run):
    async with run.client(AGENT) as jobs:
        await enqueue("1", when_busy="interrupt")
        assert await drain(jobs) == {"completed": 1}


async def note(text: str, tool_context: ToolContext) -> str:
    """Note something."""
    tool_context.state["noted"] = text
    tool_context.state["again"] = text
    return "noted"


async def book(text: str) -> str:
    """Book something."""
    return f"booked {text}"


def booking(request: LlmRequest) -> object:
    """Note it, then ask whether to book it."""
    parts = [part for content in request.contents for part in content.parts]
    if "stop" in (parts[-1].text or ""):
        return "stopped"
    names = [part.function_call.name for part in parts if part.function_call]
    return call("note" if not names else "book", text=parts[0].text)


BOOKS = LlmAgent(
    name="a",
    model=ScriptedModel(replies=booking),
    tools=[note, FunctionTool(book, require_confirmation=True)],
)


@pytest.mark.parametrize(
    ("when_busy", "noted"), [("interrupt", "x"), ("rollback", "before")]
)
async def test_one_that_waits_for_an_answer_is_stopped(run, when_busy, noted):
    async with run.client(BOOKS) as jobs:
        await jobs.sessions.create_session(**SESSION, state={"kept": 1})
        await say(jobs, state={"noted": "before"})
        asks = await enqueue("x")
        await drain(jobs)
        assert len(await jobs.approvals(job_id=asks.id)) == 1
        await enqueue("stop", when_busy=when_busy)
        assert await states(asks) == ["cancelled"]
        assert await jobs.approvals(job_id=asks.id) == []
        await drain(jobs)
        session = await jobs.sessions.get_session(**SESSION)
    texts = [e.content.parts[0].text for e in session.events if e.content]
    assert texts[-2:] == ["stop", "stopped"]
    assert (len(texts) > 2) == (when_busy == "interrupt")
    assert session.state["noted"] == noted
    assert ("again" in session.state) == (when_busy == "interrupt")
    assert session.state["kept"] == 1


async def say(jobs, state: dict) -> None:
    """Add an event of somebody else's."""
    session = await jobs.sessions.get_session(**SESSION)
    actions = EventActions(state_delta=state)
    await jobs.sessions.append_event(session, Event(author="user", actions=actions))


# Merge


async def test_messages_that_wait_are_taken_together(run):
    async with run.client(AGENT) as jobs:
        first = await enqueue("1", when_busy="merge")
        again = [await enqueue(f"{n}", when_busy="merge") for n in (2, 3)]
        assert {job.id for job in again} == {first.id}
        assert again[1].args["message"]["parts"][1:] == [{"text": "2"}, {"text": "3"}]
        assert await drain(jobs) == {"completed": 1}
        assert (await first.result(timeout=5)).text == "to 1 and 2 and 3"


async def test_one_that_waits_for_its_turn_takes_more(run):
    async with run.client(AGENT, backoff=lambda _job: 3600) as jobs:
        await enqueue("fails")
        second = await enqueue("2", when_busy="merge")
        await drain(jobs, with_scheduled=False)
        assert await states(second) == ["scheduled"]
        assert (await enqueue("3", when_busy="merge")).id == second.id


async def test_one_that_must_wait_takes_more_from_the_start(run):
    gates["slow"] = asyncio.Event()
    async with run.client(AGENT, queues={"agents": 5}):
        await enqueue("slow")
        await begun("slow")
        many = [await enqueue(f"{n}", when_busy="merge") for n in range(9)]
        assert len({job.id for job in many}) == 1
        assert many[0].meta == {"adk_oban_waits": "order"}
        gates["slow"].set()
        result = await many[0].result(timeout=20)
    assert result.text == "to 0 and 1 and 2 and 3 and 4 and 5 and 6 and 7 and 8"


async def test_one_that_waits_is_woken_if_nobody_is_left_to_do_it(run, monkeypatch):
    async with run.client(AGENT) as jobs:
        first = await enqueue("1")
        insert = jobs.oban.enqueue

        async def late(job, **options):
            made = await insert(job, **options)
            await next_one(jobs)
            return made

        monkeypatch.setattr(jobs.oban, "enqueue", late)
        second = await enqueue("2", when_busy="merge")
        assert await states(first, second) == ["completed", "available"]


@pytest.mark.parametrize(
    "other",
    [{"when_busy": None}, {"timeout": 5.0}, {"runner_opts": {"max_llm_calls": 7}}],
)
async def test_a_message_is_not_merged_with_another_kind(run, other):
    async with run.client(AGENT):
        first = await enqueue("1", **{"when_busy": "merge", **other})
        assert (await enqueue("2", when_busy="merge")).id != first.id


async def test_a_message_is_merged_with_the_last_only(run):
    async with run.client(AGENT) as jobs:
        await enqueue("1", when_busy="merge")
        await enqueue("2")
        third = await enqueue("3", when_busy="merge")
        assert (await enqueue("4", when_busy="merge")).id == third.id
        await drain(jobs)
    assert said == [["1"], ["2"], ["3", "4"]]


async def test_a_message_is_not_merged_with_one_that_has_begun(run):
    gates["slow"] = asyncio.Event()
    async with run.client(AGENT, queues={"agents": 5}) as jobs:
        slow = await enqueue("slow", when_busy="merge")
        await begun("slow")
        second = await enqueue("2", when_busy="merge")
        assert second.id != slow.id
        gates["slow"].set()
        await second.result(timeout=20)
        assert await texts_of(jobs) == ["slow", "to slow", "2", "to 2"]


async def test_a_message_that_would_be_too_long_is_not_merged(run):
    async with run.client(AGENT):
        first = await enqueue("x" * 5_000_000, when_busy="merge")
        second = await enqueue("y" * 5_000_000, when_busy="merge")
        assert second.id != first.id


async def test_parts_of_contents_stay_in_order(run):
    content = types.Content(role="user", parts=[types.Part(text=t) for t in "bc"])
    async with run.client(AGENT) as jobs:
        for message in ("a", content, "d"):
            await enqueue(message, when_busy="merge")
        await drain(jobs)
    assert said == [["a", "b", "c", "d"]]


async def test_nobody_starts_a_job_while_a_message_is_merged_into_it(run, other):
    async with run.client(AGENT, queues={"agents": 5}, stager={"interval": 60}):
        await other.execute("SELECT 1")
        first = await enqueue("1", when_busy="merge", conn=other)
        again = await enqueue("2", when_busy="merge", conn=other)
        await other.commit()
        assert again.id == first.id
        assert (await first.result(timeout=20)).text == "to 1 and 2"


async def test_a_worker_that_passed_it_over_hears_of_it(run, other, dsn, migrated):
    options = {"queues": {"agents": 5}, "stager": {"interval": 60}, "name": "Worker"}
    async with run.client(AGENT):
        first = await enqueue("1", when_busy="merge")
        await enqueue("2", when_busy="merge", conn=other)
        async with AdkOban(dsn, prefix=migrated, agents={"a": AGENT}, **options):
            # When this has run, the worker has looked.
            await (await enqueue("3", session_id="t")).result(timeout=20)
            assert await states(first) == ["available"]
            await other.commit()
            assert (await first.result(timeout=20)).text == "to 1 and 2"


async def test_a_job_that_was_passed_over_while_locked_is_started(run, other):
    async with run.client(AGENT) as jobs:
        first = await enqueue("1", when_busy="merge")
        await enqueue("2", when_busy="merge", conn=other)
        assert await next_one(jobs) is None
        await other.rollback()
        assert await next_one(jobs) == "completed"
        assert (await first.result(timeout=5)).text == "to 1"


# Unique


async def test_a_key_is_enqueued_once(run):
    async with run.client(AGENT) as jobs:
        first = await enqueue("1", unique="k")
        assert (await enqueue("2", unique="k", session_id="t")).id == first.id
        assert (await enqueue("3", unique="other")).id != first.id
        await drain(jobs)
        there = await enqueue("4", unique="k")
        assert (there.id, there.state) == (first.id, "completed")


async def test_a_key_stands_for_its_period(run, conn, migrated):
    async with run.client(AGENT):
        first = await enqueue("1", unique=("k", timedelta(hours=1)))
        assert (await enqueue("2", unique=("k", 3600))).id == first.id
        await conn.execute(
            f"UPDATE {migrated}.adk_oban_uniques SET expires_at = now() WHERE key = 'k'"
        )
        assert (await enqueue("3", unique=("k", 3600))).id != first.id


async def test_a_key_is_free_when_its_job_was_cancelled_discarded_or_deleted(run):
    async with run.client(AGENT) as jobs:
        first = await enqueue("1", unique="k")
        await jobs.oban.cancel_job(first.id)
        second = await enqueue("fails", unique="k", max_attempts=1)
        await drain(jobs)
        assert await states(first, second) == ["cancelled", "discarded"]
        third = await enqueue("3", unique="k")
        await jobs.oban.delete_job(third.id)
        fourth = await enqueue("4", unique="k")
        assert len({first.id, second.id, third.id, fourth.id}) == 4


async def test_a_key_goes_with_its_job(run, conn, migrated):
    async with run.client(AGENT) as jobs:
        job = await enqueue("1", unique="k")
        await jobs.oban.delete_job(job.id)
    rows = await conn.execute(f"SELECT count(*) FROM {migrated}.adk_oban_uniques")
    assert await rows.fetchone() == (0,)


async def test_of_many_at_once_one_is_enqueued(run, conn, migrated):
    async with run.client(AGENT):
        many = [enqueue(f"{n}", unique="k", session_id=f"{n}") for n in range(20)]
        done = await asyncio.gather(*many)
        assert len({job.id for job in done}) == 1
        assert len(await messages(conn, migrated)) == 1


async def test_a_key_that_was_rolled_back_is_free(run, other):
    async with run.client(AGENT):
        await enqueue("1", unique="k", conn=other)
        second = asyncio.create_task(enqueue("2", unique="k"))
        await waits_for_a_lock(other)
        await other.rollback()
        assert (await second).args["message"] == "2"


async def test_a_second_transaction_waits_and_gets_the_job_of_the_first(run, other):
    async with run.client(AGENT):
        first = await enqueue("1", unique="k", conn=other)
        assert (await enqueue("1", unique="k", conn=other)).id == first.id
        second = asyncio.create_task(enqueue("2", unique="k"))
        await waits_for_a_lock(other)
        await other.commit()
        assert (await second).id == first.id


async def test_a_sqlalchemy_session_takes_the_job_along(run, dsn, conn, migrated):
    engine = create_async_engine(
        "postgresql+psycopg://", async_creator=lambda: AsyncConnection.connect(dsn)
    )
    async with run.client(AGENT):
        async with AsyncSession(engine) as session:
            lost = await enqueue("1", unique="k", when_busy="merge", conn=session)
            again = await enqueue("2", when_busy="merge", conn=session)
            assert lost.id == again.id
            await session.rollback()
        async with AsyncSession(engine) as session, session.begin():
            await enqueue("3", unique="k", when_busy="reject", conn=session)
        assert await messages(conn, migrated) == ["3"]
    await engine.dispose()


async def test_a_key_is_looked_at_before_the_session(run):
    async with run.client(AGENT):
        first = await enqueue("1", unique="k", when_busy="reject")
        assert (await enqueue("1", unique="k", when_busy="reject")).id == first.id


async def test_a_refused_message_leaves_its_key_free(run, other, conn, migrated):
    async with run.client(AGENT):
        await enqueue("1")
        with pytest.raises(SessionBusyError):
            await enqueue("2", unique="k", when_busy="reject", conn=other)
        await other.commit()
        rows = await conn.execute(f"SELECT count(*) FROM {migrated}.adk_oban_uniques")
        assert await rows.fetchone() == (0,)


async def test_a_key_may_stand_for_a_merged_message(run):
    async with run.client(AGENT):
        first = await enqueue("1", when_busy="merge")
        second = await enqueue("2", when_busy="merge", unique="k")
        third = await enqueue("2", when_busy="merge", unique="k")
        assert first.id == second.id == third.id
        assert len(third.args["message"]["parts"]) == 2


# By hand, and what is refused


async def test_a_job_made_by_hand_knows_them_too(run):
    args = {"agent_module": "a", "user_id": "u", "session_id": "s", "message": "hi"}
    async with run.client(AGENT) as jobs:
        await enqueue("1")
        with pytest.raises(SessionBusyError):
            made = AgentWorker.new({**args, "app_name": "app", "when_busy": "reject"})
            await jobs.enqueue(made)
        first = await jobs.enqueue(AgentWorker.new(args), unique="k")
        assert (await jobs.enqueue(AgentWorker.new(args), unique="k")).id == first.id


async def test_a_scheduled_job_may_be_unique(run):
    async with run.client(AGENT):
        first = await ScheduledJob.enqueue("a", "u", "hi", unique="k")
        assert (first.queue, first.worker.split(".")[-1]) == (
            "scheduled",
            "ScheduledJob",
        )
        assert (await ScheduledJob.enqueue("a", "u", "hi", unique="k")).id == first.id


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"when_busy": "queue"}, ValueError, "when_busy must be one of"),
        ({"when_busy": 1}, TypeError, "when_busy must be one of"),
        ({"when_busy": "merge", "ordering": "none"}, ValueError, "order of their ses"),
        ({"when_busy": "merge", "schedule_in": 9}, ValueError, "planned for later"),
        ({"unique": ""}, ValueError, "1 to 200 characters, got 0: ''"),
        ({"unique": "x" * 201}, ValueError, "1 to 200 characters, got 201"),
        ({"unique": "a\0"}, ValueError, "NUL"),
        ({"unique": 7}, TypeError, "unique must be a key, or a key and a period"),
        ({"unique": (7, 7)}, TypeError, "a string as key, got 7"),
        ({"unique": ("k", "1h")}, TypeError, "seconds or a timedelta.*got '1h'"),
        ({"unique": ("k", True)}, TypeError, "seconds or a timedelta"),
        ({"unique": ("k", 0)}, ValueError, "more than 0 seconds.*got 0"),
        ({"unique": ("k", float("inf"))}, ValueError, "got inf"),
        ({"unique": ("k", timedelta(days=-1))}, ValueError, "got -86400"),
    ],
)
async def test_what_is_wrong_is_refused_at_once(
    run, conn, migrated, wrong, error, message
):
    async with run.client(AGENT):
        with pytest.raises(error, match=message):
            await enqueue(**wrong)
        assert await messages(conn, migrated) == []
