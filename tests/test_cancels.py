"""Cancelling: jobs that wait, jobs that run, and jobs whose process has died."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.adk.agents import BaseAgent, LlmAgent, SequentialAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import Event
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.tool_context import ToolContext
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker, _abort, once
from adk_oban.errors import JobFailedError, JobNotFoundError
from adk_oban.jobs import AgentJob
from adk_oban.testing import ScriptedModel, call
from attempts import SESSION, enqueue, in_order

pytestmark = [
    pytest.mark.filterwarnings("ignore:SequentialAgent is deprecated"),
    pytest.mark.filterwarnings("ignore:The `plugins` argument is deprecated"),
]


class Place:
    """Where an agent waits, and what became of it there."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.notes: list[str] = []

    async def wait(self) -> str:
        """Wait, and take leave in peace."""
        self.reached.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.notes.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            self.notes.append("left")
        return "waited"

    async def begun(self) -> None:
        async with asyncio.timeout(10):
            await self.reached.wait()
        self.reached.clear()


@pytest.fixture
def place() -> Place:
    return Place()


def agent(*replies: Any, tools: Any = (), **options: Any) -> LlmAgent:
    model = ScriptedModel(replies=[*replies])
    return LlmAgent(name="a", model=model, tools=[*tools], **options)


async def ended(job: AgentJob) -> AgentJob:
    """Return the job when it has ended as cancelled."""
    async with asyncio.timeout(20):
        while (job := await job.reload()).state not in ("cancelled", "completed"):
            await asyncio.sleep(0.01)
    assert job.state == "cancelled", job.errors
    return job


async def session_of(jobs: AdkOban) -> Any:
    return await jobs.sessions.get_session(**SESSION)


async def mark(conn: AsyncConnection, prefix: str, reason: str) -> None:
    """Cancel all running jobs, and have nobody hear of it."""
    await conn.execute(
        f"UPDATE {prefix}.oban_jobs SET meta = meta || jsonb_build_object("
        "'adk_oban_cancel', jsonb_build_object('reason', %s::text))"
        " WHERE state = 'executing'",
        [reason],
    )


async def test_a_job_that_waits_ends_at_once_for_the_given_reason(client):
    job = await AgentWorker.enqueue("helper", "u", "hi", schedule_in=60)
    job = await job.cancel(reason="no longer wanted")
    assert job.state == "cancelled"
    assert (job.errors[0]["attempt"], job.errors[0]["error"]) == (0, "no longer wanted")
    with pytest.raises(JobFailedError, match="no longer wanted") as caught:
        await job.result(timeout=5)
    assert (caught.value.state, caught.value.reason) == (
        "cancelled",
        "no longer wanted",
    )


async def test_nobody_need_say_why(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    assert (await job.cancel()).errors[0]["error"] == "cancelled while it waited"


async def test_a_job_that_has_ended_is_not_cancelled(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await job.cancel()
    with pytest.raises(ValueError, match=f"job {job.id} is cancelled already"):
        await job.cancel()


async def test_a_job_that_is_gone_is_not_found(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await job.cancel()
    await client.oban.delete_job(job.id)
    with pytest.raises(JobNotFoundError):
        await job.cancel()


async def test_many_are_cancelled_in_one_go_and_those_that_ended_passed_over(client):
    jobs = [await AgentWorker.enqueue("helper", "u", "hi") for _ in range(3)]
    await jobs[0].cancel()
    ids = [job.id for job in jobs]
    assert await client._running.cancels.cancel([*ids, 10**9]) == ids[1:]


async def test_in_a_transaction_it_holds_with_that(client, conn):
    first, second = [
        await AgentWorker.enqueue("helper", "u", "hi", schedule_in=60) for _ in range(2)
    ]
    cancels = client._running.cancels
    async with conn.transaction(force_rollback=True):
        assert await cancels.cancel([first.id], conn=conn) == [first.id]
    async with conn.transaction():
        await cancels.cancel([second.id], conn=conn)
        assert (await second.reload()).state == "scheduled"
    assert (await first.reload()).state == "scheduled"
    assert (await second.reload()).state == "cancelled"


async def test_in_a_transaction_running_jobs_are_told_when_it_commits(
    serve, conn, place
):
    async with serve(agents={"a": agent(call("wait"), tools=[place.wait])}) as jobs:
        job = await enqueue()
        await place.begun()
        async with conn.transaction():
            await jobs._running.cancels.cancel([job.id], conn=conn)
            assert place.notes == []
        await ended(job)
    assert place.notes == ["cancelled", "left"]


class Waits(BaseAgent):
    """An agent of the user's own."""

    wait: Callable[..., Any]

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncIterator[Event]:
        await self.wait()
        yield Event(author=self.name, invocation_id=ctx.invocation_id)


class WaitingModel(ScriptedModel):
    """A model that waits before it answers."""

    wait: Callable[..., Any]

    async def generate_content_async(self, llm_request, stream=False):
        await self.wait()
        async for response in super().generate_content_async(llm_request, stream):
            yield response


KINDS = [
    "model",
    "tool",
    "two tools",
    "own agent",
    "sequence",
    "agent tool",
    "node",
    "agent in a workflow",
]


def kinds(wait: Callable[..., Any]) -> dict[str, Any]:
    """Return agents of all kinds that wait somewhere."""

    def tool() -> LlmAgent:
        return agent(call("wait"), "never", tools=[wait])

    outer = AgentTool(agent=tool())
    return {
        "model": LlmAgent(name="a", model=WaitingModel(replies=["x"], wait=wait)),
        "tool": tool(),
        "two tools": agent([call("wait"), call("wait")], "never", tools=[wait]),
        "own agent": Waits(name="a", wait=wait),
        "sequence": SequentialAgent(name="s", sub_agents=[tool()]),
        "agent tool": agent(call("a", request="x"), "never", tools=[outer]),
        "node": in_order(wait),
        "agent in a workflow": in_order(tool()),
    }


@pytest.mark.parametrize("kind", KINDS)
async def test_wherever_it_runs_it_is_stopped_and_its_finally_blocks_end(
    serve, place, kind
):
    async with serve(agents={"a": kinds(place.wait)[kind]}) as jobs:
        job = await enqueue()
        await place.begun()
        began = time.monotonic()
        await job.cancel(reason="enough")
        job = await ended(job)
        assert time.monotonic() - began < 2
        assert await session_of(jobs) is None
    assert set(place.notes) == {"cancelled", "left"}
    assert [error["error"] for error in job.errors] == ["enough"]
    assert "adk_oban_cancel" not in job.meta
    assert place.notes.count("left") == place.notes.count("cancelled")


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_kept_is_sealed(serve, place, kind):
    async with serve(agents={"a": kinds(place.wait)[kind]}) as jobs:
        job = await enqueue()
        await place.begun()
        await job.cancel(keep=True)
        job = await ended(job)
        events = (await session_of(jobs)).events
    assert events[0].content.parts[0].text == "hi"
    assert events[-1].error_code == "INVOCATION_ABORTED"
    calls = [c.id for event in events for c in event.get_function_calls()]
    answers = [r.id for event in events for r in event.get_function_responses()]
    assert calls == answers


async def test_of_what_is_kept_the_changes_of_state_are_too(serve, place):
    async def put(tool_context: ToolContext) -> str:
        """Put."""
        tool_context.state["k"] = tool_context.state["user:u"] = 1
        return "put"

    mine = agent(call("put"), call("wait"), tools=[put, place.wait])
    async with serve(agents={"a": mine}) as jobs:
        job = await enqueue(on_cancel="keep")
        await place.begun()
        await job.cancel()
        await ended(job)
        assert (await session_of(jobs)).state == {"k": 1, "user:u": 1}


async def test_who_cancels_may_say_otherwise_than_the_job(serve, place):
    async with serve(agents={"a": agent(call("wait"), tools=[place.wait])}) as jobs:
        job = await enqueue(on_cancel="keep")
        await place.begun()
        await job.cancel(keep=False)
        await ended(job)
        assert await session_of(jobs) is None


async def test_who_cancels_first_says_how(serve, place):
    async with serve(agents={"a": agent(call("wait"), tools=[place.wait])}) as jobs:
        job = await enqueue()
        await place.begun()
        both = job.cancel(reason="first", keep=True), job.cancel(reason="second")
        await both[0]
        await asyncio.gather(both[1], return_exceptions=True)
        assert (await ended(job)).errors[0]["error"] == "first"
        assert await session_of(jobs) is not None


async def test_obans_own_way_is_the_same(serve, place):
    async with serve(agents={"a": agent(call("wait"), tools=[place.wait])}) as jobs:
        job = await enqueue()
        await place.begun()
        assert await jobs.oban.cancel_many_jobs([job.id]) == 1
        assert (await ended(job)).errors[0]["error"] == "cancelled while it ran"
    assert place.notes == ["cancelled", "left"]


async def test_a_cancelled_job_may_be_retried(serve, place):
    mine = agent(call("wait"), "done", tools=[place.wait])
    async with serve(agents={"a": mine}) as jobs:
        job = await enqueue(on_cancel="keep")
        await place.begun()
        await job.cancel()
        await ended(job)
        place.open.set()
        await jobs.oban.retry_job(job.id)
        assert (await job.result(timeout=20)).text == "done"
        assert (await job.reload()).meta.get("adk_oban_cancel") is None


async def test_the_next_job_of_the_session_starts(serve, place):
    mine = agent(call("wait"), "second", tools=[place.wait])
    async with serve(agents={"a": mine}):
        first, second = await enqueue(), await enqueue()
        await place.begun()
        await first.cancel()
        assert (await second.result(timeout=20)).text == "second"


async def test_what_had_landed_stays_completed(serve, place):
    async with serve(agents={"a": agent("done")}) as jobs:
        job = await enqueue()
        await job.result(timeout=20)
        with pytest.raises(ValueError, match="is completed already"):
            await job.cancel()
        assert (await session_of(jobs)).events[-1].content.parts[0].text == "done"


async def test_whoever_was_told_that_it_is_cancelled_does_not_find_it_completed(
    serve, conn, migrated, place
):
    mine = agent(call("wait"), "done", tools=[place.wait])
    async with serve(agents={"a": mine}) as jobs:
        job = await enqueue()
        await place.begun()
        await mark(conn, migrated, "unheard")
        place.open.set()
        assert (await ended(job)).errors[0]["error"] == "unheard"
        assert await session_of(jobs) is None


async def test_one_that_is_cancelled_before_it_begins_does_not_begin(
    serve, conn, migrated
):
    mine = agent("never")

    async def made() -> LlmAgent:
        await mark(conn, migrated, "too late")
        return mine

    async with serve(agents={"a": made}):
        job = await ended(await enqueue())
    assert (job.errors[0]["error"], mine.model.requests) == ("too late", [])


async def test_a_word_that_was_lost_is_found_in_the_row(serve, conn, migrated, place):
    async with serve(agents={"a": agent(call("wait"), tools=[place.wait])}):
        job = await enqueue()
        await place.begun()
        await mark(conn, migrated, "looked up")
        # The node looks once a second.
        assert (await ended(job)).errors[0]["error"] == "looked up"
    assert place.notes == ["cancelled", "left"]


async def test_an_attempt_that_fails_meanwhile_is_not_tried_again(
    serve, conn, migrated
):
    async def fail() -> str:
        """Fail, after somebody has cancelled."""
        await mark(conn, migrated, "enough")
        raise OSError("down")

    async with serve(agents={"a": agent(call("fail"), "never", tools=[fail])}):
        job = await ended(await enqueue())
    assert "down" in job.errors[0]["error"]
    assert job.errors[1]["error"] == "enough"


async def test_a_stop_of_the_process_ends_it_as_cancelled(
    dsn, serve, conn, migrated, place
):
    mine = agent(call("wait"), tools=[place.wait])
    async with serve(agents={"a": mine}, shutdown_grace_period=0):
        job = await enqueue()
        await place.begun()
        await mark(conn, migrated, "just before")
    async with AdkOban(dsn, prefix=migrated) as client:
        job = await client.get_job(job.id)
    assert (job.state, job.errors[0]["error"]) == ("cancelled", "just before")


@pytest.mark.parametrize("kind", ["tool", "node"])
async def test_what_blocks_a_thread_is_left_behind_and_said_so(serve, caplog, kind):
    begun, release, went_on = asyncio.Event(), [], []
    loop = asyncio.get_running_loop()

    def block() -> str:
        """Block."""
        loop.call_soon_threadsafe(begun.set)
        while not release:
            time.sleep(0.01)
        went_on.append(True)
        return "blocked"

    mine = agent(call("block"), tools=[block]) if kind == "tool" else in_order(block)
    async with serve(agents={"a": mine}) as jobs:
        job = await enqueue()
        await asyncio.wait_for(begun.wait(), 10)
        await job.cancel(reason="enough")
        job = await ended(job)
        release.append(True)
        async with asyncio.timeout(10):
            while not went_on:
                await asyncio.sleep(0.01)
        steps = await jobs._running.steps.of_job(job.id)
    assert [step.kind for step in steps] == ["model"] * (kind == "tool")
    told = f"{kind} 'block' blocks a thread and was left behind"
    assert job.errors[0]["error"] == f"enough; {told}"
    assert f"{told}: it goes on" in caplog.text


async def test_a_tool_that_suppresses_it_is_left_behind_and_writes_nothing(
    serve, monkeypatch, caplog
):
    monkeypatch.setattr(_abort, "GRACE", 0.1)
    begun, release, ran = asyncio.Event(), asyncio.Event(), []

    async def stay() -> str:
        """Stay."""
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                ran.append("suppressed")
        return "stayed"

    mine = agent(call("stay"), "never", tools=[stay])
    async with serve(agents={"a": mine}) as jobs:
        job = await enqueue()
        await asyncio.wait_for(begun.wait(), 10)
        await job.cancel(keep=True)
        job = await ended(job)
        late = [
            t for t in asyncio.all_tasks() if t.get_name() == f"adk-oban-job-{job.id}"
        ]
        release.set()
        await asyncio.wait(late, timeout=10)
        steps = await jobs._running.steps.of_job(job.id)
        events = (await session_of(jobs)).events
    assert len(late) == 1
    assert "tool 'stay' suppresses its cancellation" in job.errors[0]["error"]
    assert "tool 'stay' suppresses its cancellation" in caplog.text
    assert [step.kind for step in steps] == ["model"]
    assert (set(ran), len(mine.model.requests)) == ({"suppressed"}, 1)
    assert [event.error_code for event in events] == [None, None, "INVOCATION_ABORTED"]


async def test_a_tool_that_runs_once_and_is_stopped_waits_for_a_word_when_retried(
    serve, place
):
    @once
    async def pay() -> str:
        """Pay."""
        return await place.wait()

    async with serve(agents={"a": agent(call("pay"), "never", tools=[pay])}) as jobs:
        job = await enqueue()
        await place.begun()
        await job.cancel()
        await ended(job)
        await jobs.oban.retry_job(job.id)
        async with asyncio.timeout(20):
            while not (await jobs.approvals(job_id=job.id)):
                await asyncio.sleep(0.02)


async def test_an_error_in_a_finally_block_changes_nothing(serve, place, caplog):
    async def careless() -> None:
        try:
            await place.wait()
        finally:
            raise OSError("careless")

    async with serve(agents={"a": Waits(name="a", wait=careless)}):
        job = await enqueue()
        await place.begun()
        await job.cancel(reason="enough")
        assert (await ended(job)).errors[0]["error"] == "enough"
    assert "raised when it was stopped: OSError('careless')" in caplog.text


async def test_an_error_in_a_tools_finally_block_does_not_hold_it_up(
    serve, place, monkeypatch
):
    monkeypatch.setattr(_abort, "GRACE", 0.2)

    async def careless() -> str:
        """Raise while it leaves."""
        try:
            return await place.wait()
        finally:
            raise OSError("careless")

    async with serve(agents={"a": agent(call("careless"), tools=[careless])}):
        job = await enqueue()
        await place.begun()
        await job.cancel(reason="enough")
        assert (await ended(job)).errors[0]["error"] == "enough"


@pytest.mark.parametrize("limit", ["tool_timeout", "job_timeout"])
async def test_a_plain_function_that_takes_too_long_is_said_to_go_on(
    serve, caplog, limit
):
    release, took = threading.Event(), []

    def block() -> str:
        """Block, the first time."""
        if not took:
            took.append(release.wait(20))
        return "blocked"

    mine = agent(call("block"), "done", tools=[block])
    async with serve(agents={"a": mine}, **{limit: 0.3}):
        job = await enqueue(max_attempts=1)
        with pytest.raises(JobFailedError, match=r"within 0\.3 s"):
            await job.result(timeout=20)
        release.set()
    assert "tool 'block' blocks a thread and was left behind: it goes on" in caplog.text


async def test_an_attempt_out_of_time_leaves_behind_what_suppresses_it(
    serve, monkeypatch
):
    monkeypatch.setattr(_abort, "GRACE", 0.1)
    release = asyncio.Event()

    async def stay() -> str:
        """Stay."""
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        return "stayed"

    async with serve(agents={"a": agent(call("stay"), "never", tools=[stay])}):
        job = await enqueue(timeout=0.3, max_attempts=1)
        with pytest.raises(JobFailedError, match=r"within 0\.3 s"):
            await job.result(timeout=20)
        release.set()
