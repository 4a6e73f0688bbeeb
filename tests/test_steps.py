"""The table of steps: written by the job's owner alone, and deleted in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from google.adk.agents import LlmAgent

from adk_oban import AdkOban, AgentWorker
from adk_oban._steps import Owner, Step
from adk_oban.testing import ScriptedModel, call, drain
from attempts import Runs, enqueue

NOW = datetime(2030, 1, 2, tzinfo=UTC)


@pytest.fixture
def run(dsn, migrated):
    return Runs(dsn, migrated)


async def look() -> str:
    """Look."""
    return "seen"


def agent(*replies) -> LlmAgent:
    return LlmAgent(name="a", model=ScriptedModel(replies=[*replies]), tools=[look])


def step(job_id: int, **fields) -> Step:
    made = Step(
        job_id=job_id,
        segment=0,
        key="k",
        ordinal=0,
        kind="tool",
        name="look",
        agent="a",
        branch="",
        state="done",
        parts={"args": "x"},
        payload='{"result":1}',
        usage=None,
        attempt=1,
        duration=0.5,
        began_at=NOW,
        recorded_at=NOW,
    )
    return replace(made, **fields)


@pytest.fixture
async def steps(client: AdkOban):
    return client._services.steps


@pytest.fixture
async def owner(client, conn, migrated) -> Owner:
    """The owner of a job that runs."""
    job = await AgentWorker.enqueue("helper", "u", "hi")
    cursor = await conn.execute(
        f"UPDATE {migrated}.oban_jobs SET state = 'executing', attempt = 1, "
        "attempted_at = timezone('UTC', now()) WHERE id = %s RETURNING attempted_at",
        [job.id],
    )
    ((attempted_at,),) = await cursor.fetchall()
    return Owner(job.id, attempted_at, 1)


async def test_a_step_is_there_as_it_was_written(steps, owner):
    wrote = step(owner.job_id, usage={"total_token_count": 3}, payload='"\\u0000"')
    assert await steps.record(owner, wrote)
    (there,) = await steps.of_job(owner.job_id)
    assert replace(there, id=None) == wrote


async def test_a_step_is_written_in_place_of_its_earlier_state(steps, owner):
    await steps.record(owner, step(owner.job_id, state="started", payload=None))
    await steps.record(owner, step(owner.job_id))
    (there,) = await steps.of_job(owner.job_id)
    assert (there.state, there.payload) == ("done", '{"result":1}')


async def test_steps_of_many_come_in_groups(steps, owner):
    many = [step(owner.job_id, ordinal=n) for n in range(1000)]
    assert all(await asyncio.gather(*(steps.record(owner, each) for each in many)))
    assert len(await steps.of_job(owner.job_id)) == 1000


@pytest.mark.parametrize(
    "sql",
    [
        "attempted_at = attempted_at + interval '1 microsecond'",
        "state = 'available'",
        "state = 'cancelled'",
    ],
)
async def test_who_does_not_own_the_job_writes_nothing(
    steps, owner, conn, migrated, sql
):
    await conn.execute(f"UPDATE {migrated}.oban_jobs SET {sql}")
    assert not await steps.record(owner, step(owner.job_id))
    assert await steps.save([(owner, step(owner.job_id))]) == [False]
    await steps.forget(owner, "k", 0)
    assert await steps.of_job(owner.job_id) == []


async def test_of_many_only_the_owners_are_written(steps, owner):
    zombie = replace(owner, attempted_at=owner.attempted_at - timedelta(seconds=1))
    pairs = [(zombie, step(owner.job_id)), (owner, step(owner.job_id, ordinal=1))]
    assert await steps.save(pairs) == [False, True]
    (there,) = await steps.of_job(owner.job_id)
    assert there.ordinal == 1


async def test_a_transaction_that_is_rolled_back_has_written_nothing(steps, owner):
    with pytest.raises(ZeroDivisionError):
        async with steps.transaction() as conn:
            assert await steps.save([(owner, step(owner.job_id))], conn=conn) == [True]
            raise ZeroDivisionError
    assert await steps.of_job(owner.job_id) == []


async def test_a_forgotten_step_is_gone(steps, owner):
    await steps.record(owner, step(owner.job_id))
    await steps.forget(owner, "k", 0)
    assert await steps.of_job(owner.job_id) == []


async def count(conn, migrated) -> int:
    cursor = await conn.execute(f"SELECT count(*) FROM {migrated}.adk_oban_steps")
    ((number,),) = await cursor.fetchall()
    return number


async def test_steps_are_kept_for_a_time_and_then_pruned(run, conn, migrated):
    async with run.client(agent(call("look"), "done")) as jobs:
        await enqueue()
        await drain(jobs)
        steps = jobs._services.steps
        assert await steps.prune(timedelta(hours=1)) == 0
        assert await count(conn, migrated) == 3
        assert await steps.prune(timedelta(0)) == 3
        assert await count(conn, migrated) == 0
        assert await steps.prune(timedelta(0)) == 0


async def test_steps_of_a_job_that_goes_on_are_not_pruned(run, conn, migrated):
    async with run.client(agent(call("look"), OSError("down"), "done")) as jobs:
        job = await enqueue(max_attempts=1)
        await drain(jobs)
        await jobs.oban.retry_job(job.id)
        await jobs._services.steps.prune(timedelta(0))
        assert await count(conn, migrated) == 2
        await conn.execute(f"UPDATE {migrated}.oban_jobs SET max_attempts = 5")
        assert await drain(jobs) == {"completed": 1}
        assert await jobs._services.steps.prune(timedelta(0)) == 3
        assert await count(conn, migrated) == 0


async def test_steps_of_a_job_that_was_cancelled_while_it_waited_are_pruned(
    run, conn, migrated
):
    failing = agent(call("look"), OSError("down"), "done")
    async with run.client(failing, backoff=lambda _job: 3600) as jobs:
        job = await enqueue()
        await drain(jobs, with_scheduled=False)
        await jobs.oban.cancel_job(job.id)
        assert (await job.reload()).state == "cancelled"
        await jobs._services.steps.prune(timedelta(0))
        assert await count(conn, migrated) == 0


async def test_steps_of_jobs_that_are_gone_are_pruned(run, conn, migrated):
    failing = agent(call("look"), OSError("down"), "done")
    async with run.client(failing) as jobs:
        await enqueue(max_attempts=1)
        await drain(jobs)
        await conn.execute(f"DELETE FROM {migrated}.oban_jobs")
        await jobs._services.steps.prune(timedelta(0))
        assert await count(conn, migrated) == 0


async def test_the_steps_of_one_job_say_nothing_to_another(run):
    first = await run(agent(call("look"), "one"), session_id="1")
    other = await run(agent(call("look"), "other"), session_id="2")
    assert (first.result.text, other.result.text) == ("one", "other")
    assert other.result.steps["replayed"] == 0
