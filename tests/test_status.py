"""Where a job stands, and what its agents have done, at any time of its life."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.tools.function_tool import FunctionTool

from adk_oban import AdkOban, AgentWorker
from adk_oban.errors import JobNotFoundError
from adk_oban.jobs import AgentJob
from adk_oban.testing import ScriptedModel, call, drain

LATER = datetime(2100, 1, 1, tzinfo=UTC)


async def look() -> str:
    """Look."""
    return "seen"


def agent(*replies: Any, tools: Any = (look,)) -> LlmAgent:
    return LlmAgent(name="a", model=ScriptedModel(replies=[*replies]), tools=[*tools])


def use(dsn: str, prefix: str, agent: LlmAgent) -> AdkOban:
    return AdkOban(dsn, prefix=prefix, agents={"a": agent}, backoff=lambda _job: 0)


def sources(steps: Any) -> list[str]:
    return [f"{step.kind} {step.name} {step.source}" for step in steps]


async def test_a_job_that_waits_has_begun_nothing(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    status = await job.status()

    assert (status.state, status.waits, status.attempt) == ("available", None, 0)
    assert (status.max_attempts, status.node, status.steps_done) == (3, None, 0)
    assert (status.last_step, status.ended_at, status.is_pruned) == (None, None, False)
    assert await job.steps() == []


async def test_a_planned_job_says_when_it_runs(client):
    job = await AgentWorker.enqueue("helper", "u", "hi", scheduled_at=LATER)

    assert (await job.status()).next_run_at == LATER


async def test_a_job_that_runs_says_where_and_since_when(serve):
    began, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        """Wait."""
        began.set()
        await go_on.wait()
        return "done"

    made = agent(call("look"), call("wait"), "Done.", tools=(look, wait))
    async with serve(agents={"a": made}, node="node-7"):
        job = await AgentWorker.enqueue("a", "u", "hi")
        await asyncio.wait_for(began.wait(), 10)
        status = await job.status()
        go_on.set()
        await job.result(timeout=10)

    assert (status.state, status.node, status.attempt) == ("executing", "node-7", 1)
    assert timedelta(0) <= datetime.now(UTC) - status.running_since < timedelta(hours=1)
    assert status.steps_done == 3
    assert (status.last_step.kind, status.last_step.agent) == ("model", "a")
    assert status.is_cancelling is False


async def test_a_job_that_is_told_to_stop_says_so(client, conn, migrated):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await conn.execute(f"UPDATE {migrated}.oban_jobs SET state = 'executing'")
    await job.cancel()

    assert (await job.status()).is_cancelling is True


async def test_a_job_behind_another_waits_for_its_order(client):
    await AgentWorker.enqueue("helper", "u", "1", session_id="s", queue="other")
    second = await AgentWorker.enqueue("helper", "u", "2", session_id="s")
    await drain(client, queues=["agents"])

    status = await second.status()
    assert (status.state, status.waits) == ("scheduled", "order")


async def test_a_job_that_asks_names_its_questions(dsn, migrated):
    asks = FunctionTool(look, require_confirmation=True)
    made = agent(call("look"), "Done.", tools=(asks,))
    async with use(dsn, migrated, made) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        (asked,) = await jobs.approvals(job_id=job.id)
        status = await job.status()

        assert (status.state, status.waits) == ("scheduled", "approval")
        assert status.approvals == (asked.id,)
        assert status.next_run_at is None  # nobody knows
        assert status.cursor is not None
        await job.approve(asked.id)
        assert (await job.status()).approvals == ()


async def test_steps_before_a_pause_are_live(dsn, migrated):
    asks = FunctionTool(look, require_confirmation=True)
    made = agent(call("look"), "Done.", tools=(asks,))
    async with use(dsn, migrated, made) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        (asked,) = await jobs.approvals(job_id=job.id)
        await job.approve(asked.id)
        await drain(jobs)
        steps = await job.steps()

    assert {step.source for step in steps} == {"live"}
    assert [step.position for step in steps] == [*range(1, len(steps) + 1)]
    assert {step.segment for step in steps} == {0, 1}


async def failed_once(jobs: AdkOban) -> AgentJob:
    job = await AgentWorker.enqueue("a", "u", "hi")
    await drain(jobs)
    return await job.reload()


def fails_once() -> LlmAgent:
    return agent(call("look"), ConnectionError("away"), "Done.")


async def test_what_the_last_attempt_did_not_do_again_is_replayed(dsn, migrated):
    async with use(dsn, migrated, fails_once()) as jobs:
        job = await failed_once(jobs)
        steps, status = await job.steps(), await job.status()

    assert [source.rsplit(" ", 1)[1] for source in sources(steps)] == [
        *("replayed", "replayed", "live")
    ]
    assert [(s.kind, s.agent, s.attempt) for s in steps] == [
        *(("model", "a", 1), ("tool", "a", 1), ("model", "a", 2))
    ]
    assert all(step.state == "done" and step.duration >= 0 for step in steps)
    assert (status.state, status.attempt, status.steps_done) == ("completed", 2, 3)
    assert status.ended_at is not None
    assert "away" in status.error


async def test_what_is_not_done_comes_last(dsn, migrated, conn):
    async with use(dsn, migrated, fails_once()) as jobs:
        job = await failed_once(jobs)
        await conn.execute(
            f"UPDATE {migrated}.adk_oban_steps SET state = 'started' "
            "WHERE kind = 'tool'"
        )
        steps = await job.steps()

    assert [(s.position, s.kind) for s in steps] == [
        *((1, "model"), (2, "model"), (3, "tool"))
    ]
    assert [step.state for step in steps] == ["done", "done", "started"]


async def test_a_step_of_an_older_node_is_judged_by_its_attempt(dsn, migrated, conn):
    async with use(dsn, migrated, fails_once()) as jobs:
        job = await failed_once(jobs)
        before = sources(await job.steps())
        await conn.execute(f"UPDATE {migrated}.adk_oban_steps SET attempted_at = NULL")

        assert sources(await job.steps()) == before


async def test_a_pruned_job_keeps_its_end_and_its_steps(dsn, migrated, conn):
    async with use(dsn, migrated, fails_once()) as jobs:
        job = await failed_once(jobs)
        before = sources(await job.steps())
        await conn.execute(f"DELETE FROM {migrated}.oban_jobs")
        status = await job.status()

        assert (status.state, status.is_pruned, status.attempt) == (
            "completed",
            True,
            2,
        )
        assert status.ended_at is not None
        assert sources(await job.steps()) == before
        assert await jobs.get_status(job.id) == status


async def test_what_is_older_than_the_job_is_of_another_of_its_number(
    dsn, migrated, conn
):
    async with use(dsn, migrated, fails_once()) as jobs:
        job = await failed_once(jobs)
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET state = 'available', attempt = 0, "
            "errors = '[]', inserted_at = inserted_at + interval '2 hours'"
        )
        status = await job.status()

        assert (status.steps_done, status.last_step, status.error) == (0, None, None)
        assert await job.steps() == []


async def test_nothing_there_is_an_error_of_its_own(client, conn, migrated):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await conn.execute(f"DELETE FROM {migrated}.oban_jobs")

    with pytest.raises(JobNotFoundError):
        await job.status()
    with pytest.raises(JobNotFoundError):
        await job.steps()
    assert await client.get_status(job.id) is None


async def test_all_of_it_is_plain_json(dsn, migrated):
    async with use(dsn, migrated, fails_once()) as jobs:
        job = await failed_once(jobs)
        told = json.loads(json.dumps((await job.status()).to_json()))
        steps = json.loads(json.dumps([s.to_json() for s in await job.steps()]))
        page = json.loads(json.dumps((await jobs.list_jobs()).to_json()))

    assert told["last_step"] == {
        "kind": "model",
        "name": steps[-1]["name"],
        "agent": "a",
    }
    assert datetime.fromisoformat(told["ended_at"]).tzinfo is not None
    assert [step["position"] for step in steps] == [1, 2, 3]
    assert (page["jobs"][0]["id"], page["next"]) == (job.id, None)


async def test_a_status_reads_no_table_as_a_whole(client, conn, migrated):
    from adk_oban._query import statement

    job = await AgentWorker.enqueue("helper", "u", "hi")
    await conn.execute(
        f"INSERT INTO {migrated}.oban_jobs (worker) "
        "SELECT 'mine.Own' FROM generate_series(1, 5000)"
    )
    for name in ("get_status", "get_job_steps"):
        cursor = await conn.execute(
            "EXPLAIN " + statement(name, migrated), {"job_id": job.id}
        )
        assert "Seq Scan" not in str(await cursor.fetchall())
