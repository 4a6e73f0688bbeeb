"""Stopping gives running jobs back, with their attempt."""

from __future__ import annotations

import asyncio

import pytest
from google.adk.agents import LlmAgent
from oban import Oban, worker
from psycopg_pool import AsyncConnectionPool

from adk_oban import AdkOban, AgentWorker
from adk_oban.testing import ScriptedModel, call


class Waiting:
    """An agent whose tool waits, and what became of it."""

    def __init__(self) -> None:
        self.started, self.release = asyncio.Event(), asyncio.Event()
        self.cancelled = False

        async def wait() -> str:
            """Wait."""
            self.started.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
            return "done"

        def reply(request):
            parts = request.contents[-1].parts
            return "ok" if parts[0].function_response else call("wait")

        model = ScriptedModel(replies=reply)
        self.agent = LlmAgent(name="waiting", model=model, tools=[wait])


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


async def started(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 10)


async def test_what_runs_after_the_grace_is_available_again(serve, client, waiting):
    jobs = await serve(agents={"w": waiting.agent}, shutdown_grace_period=0).start()
    job = await AgentWorker.enqueue("w", "u", "hi", max_attempts=1)
    await started(waiting.started)
    await jobs.stop()

    row = await client.oban.get_job(job.id)
    assert (row.state, row.attempt, row.errors) == ("available", 0, [])
    assert waiting.cancelled


@pytest.fixture
async def client(dsn, migrated):
    async with AdkOban(dsn, prefix=migrated, name="client") as jobs:
        yield jobs


async def test_hurry_ends_the_grace_of_a_stop(serve, client, waiting):
    jobs = await serve(agents={"w": waiting.agent}, shutdown_grace_period=None).start()
    job = await AgentWorker.enqueue("w", "u", "hi")
    await started(waiting.started)
    stopping = asyncio.create_task(jobs.stop())
    await asyncio.sleep(0)
    jobs.hurry()
    await asyncio.wait_for(stopping, 20)

    row = await client.oban.get_job(job.id)
    assert (row.state, row.attempt) == ("available", 0)


async def test_hurry_counts_for_the_next_stop_only(serve, client, waiting):
    jobs = serve(agents={"w": waiting.agent}, shutdown_grace_period=None)
    jobs.hurry()
    await jobs.start()
    job = await AgentWorker.enqueue("w", "u", "hi")
    await started(waiting.started)
    stopping = asyncio.create_task(jobs.stop())
    await asyncio.sleep(0)
    waiting.release.set()
    await asyncio.wait_for(stopping, 20)

    assert (await client.get_job(job.id)).state == "completed"


async def test_a_job_that_a_user_cancelled_is_not_handed_back(serve, client, waiting):
    jobs = await serve(agents={"w": waiting.agent}, shutdown_grace_period=0).start()
    job = await AgentWorker.enqueue("w", "u", "hi")
    await started(waiting.started)
    (row, _task) = jobs.oban._producers["agents"]._running_jobs[job.id]
    await jobs.oban.cancel_job(job.id)
    await asyncio.wait_for(row._cancellation.wait(), 10)
    await jobs.stop()

    row = await client.oban.get_job(job.id)
    assert (row.state, row.errors[0]["error"]) == (
        "cancelled",
        "cancelled while it ran",
    )


async def test_what_ended_is_acknowledged_and_not_handed_back(serve, client):
    async def stubborn() -> str:
        """End only when cancelled, and well."""
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        return "never"

    begun = asyncio.Event()
    done: list[int] = []

    @worker(queue="agents")
    class Stubborn:
        async def process(self, job):
            await stubborn()
            done.append(job.id)

    jobs = await serve(agents={}, shutdown_grace_period=0).start()
    job = await Stubborn.enqueue({})
    await started(begun)
    await jobs.stop()

    assert done == [job.id]
    row = await client.oban.get_job(job.id)
    assert (row.state, row.attempt) == ("completed", 1)


async def test_nothing_is_fetched_once_it_stops(serve, client, waiting):
    jobs = serve(agents={"w": waiting.agent}, shutdown_grace_period=None)
    await jobs.start()
    await AgentWorker.enqueue("w", "u", "hi")
    await started(waiting.started)
    producer = jobs.oban._producers["agents"]
    stopping = asyncio.create_task(jobs.stop())
    await asyncio.sleep(0)
    late = await AgentWorker.enqueue("w", "u", "hi", oban="client")
    assert await producer._get_jobs() == []
    waiting.release.set()
    await asyncio.wait_for(stopping, 20)

    assert (await client.get_job(late.id)).state == "available"


async def test_a_queue_that_is_stopped_hands_its_jobs_back(serve, client, waiting):
    options = {"shutdown_grace_period": 0, "node": "here"}
    async with serve(agents={"w": waiting.agent}, **options) as jobs:
        job = await AgentWorker.enqueue("w", "u", "hi", max_attempts=1)
        await started(waiting.started)
        await jobs.oban.stop_queue("agents", node="here")
        async with asyncio.timeout(20):
            while (await client.get_job(job.id)).state != "available":
                await asyncio.sleep(0.01)
        assert (await client.get_job(job.id)).attempt == 0


@worker(queue="agents")
class PlainWorker:
    """A worker that has nothing to do with agents."""

    started = asyncio.Event()
    release = asyncio.Event()

    async def process(self, job):
        self.started.set()
        await self.release.wait()


async def test_of_a_given_oban_only_jobs_of_agents_are_handed_back(
    dsn, migrated, client, conn, waiting
):
    PlainWorker.started, PlainWorker.release = asyncio.Event(), asyncio.Event()
    options = {"queues": {"agents": 5}, "shutdown_grace_period": 0, "name": "mine"}
    async with (
        AsyncConnectionPool(dsn, min_size=2, open=False) as pool,
        Oban(pool=pool, prefix=migrated, **options) as oban,
    ):
        async with AdkOban(oban=oban, agents={"w": waiting.agent}):
            job = await AgentWorker.enqueue("w", "u", "hi", oban="mine")
            plain = await oban.enqueue(PlainWorker.new({}))
            await started(waiting.started)
            await started(PlainWorker.started)
            assert len(await _producers(conn, migrated)) == 1
        assert waiting.cancelled
        async with asyncio.timeout(20):
            # That Oban may look at it in between, and leaves it for others.
            while (await client.oban.get_job(job.id)).attempt != 0:
                await asyncio.sleep(0.01)
        assert (await client.oban.get_job(plain.id)).state == "executing"
        assert await _producers(conn, migrated) == []
        PlainWorker.release.set()
        async with asyncio.timeout(20):
            while (await client.oban.get_job(plain.id)).state != "completed":
                await asyncio.sleep(0.01)


async def _producers(conn, prefix):
    rows = await conn.execute(f"SELECT uuid FROM {prefix}.adk_oban_producers")
    return await rows.fetchall()
