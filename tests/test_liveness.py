"""The locks that say that a process lives, and what happens when they are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg
import pytest
from google.adk.agents import LlmAgent
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker
from adk_oban._liveness import Liveness
from adk_oban.testing import ScriptedModel, call
from pg_proxy import proxy


async def holders(conn: AsyncConnection, prefix: str) -> dict[str, int]:
    """Return which server process holds the lock of which producer."""
    rows = await conn.execute(
        "SELECT producer.uuid, lock.pid "
        f"FROM {prefix}.adk_oban_producers AS producer JOIN pg_locks AS lock "
        "ON lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1 "
        "AND ((lock.classid::bigint << 32) | lock.objid::bigint) "
        f"= hashtextextended('\"{prefix}\".' || producer.uuid, 0)"
    )
    return dict(await rows.fetchall())


async def until(true: Callable[[], object | Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while True:
            found = true()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.01)


def liveness_of(jobs: AdkOban) -> Liveness:
    return jobs._services.liveness


async def take_away(jobs: AdkOban, conn: AsyncConnection, prefix: str) -> None:
    """End the session that holds the locks, and take them before it comes back."""
    await conn.execute("SELECT pg_advisory_unlock_all()")
    held = await holders(conn, prefix)
    for uuid, pid in held.items():
        await conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
        await conn.execute(
            f"SELECT pg_advisory_lock(hashtextextended('\"{prefix}\".' || %s, 0))",
            (uuid,),
        )
    await until(lambda: not liveness_of(jobs).held)


async def give_back(conn: AsyncConnection) -> None:
    await conn.execute("SELECT pg_advisory_unlock_all()")


async def test_a_worker_holds_a_lock_for_each_queue_until_it_stops(
    serve, helper, conn, migrated
):
    async with serve(agents={"h": helper}, queues={"a": 1, "b": 2}) as jobs:
        held = await holders(conn, migrated)
        uuids = {queue.uuid for queue in jobs.oban.check_all_queues()}
        assert set(held) == uuids
        assert len(set(held.values())) == 1
        assert liveness_of(jobs).held
    rows = await conn.execute(f"SELECT uuid FROM {migrated}.adk_oban_producers")
    assert await rows.fetchall() == []


async def test_a_client_holds_none(client, conn, migrated):
    assert liveness_of(client) is None
    assert await holders(conn, migrated) == {}


async def test_a_queue_that_is_started_later_gets_its_lock(
    serve, helper, conn, migrated
):
    async with serve(agents={"h": helper}, node="here") as jobs:
        await jobs.oban.start_queue(queue="later", limit=1, node="here")
        job = await AgentWorker.enqueue("h", "u", "hi", queue="later")
        assert (await job.result(timeout=20)).text == "You said: hi"
        assert len(await holders(conn, migrated)) == 3


async def test_locks_whose_connection_broke_are_taken_again(
    serve, helper, conn, migrated
):
    async with serve(agents={"h": helper}) as jobs:
        before = await holders(conn, migrated)
        for pid in before.values():
            await conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
        await until(lambda: not liveness_of(jobs).held)
        await until(lambda: liveness_of(jobs).held)
        after = await holders(conn, migrated)
        assert set(after) == set(before)
        assert set(after.values()).isdisjoint(before.values())
        job = await AgentWorker.enqueue("h", "u", "hi")
        assert (await job.result(timeout=20)).text == "You said: hi"


async def test_no_job_is_fetched_while_the_locks_are_not_held(
    serve, helper, conn, migrated
):
    async with serve(agents={"h": helper}) as jobs:
        await take_away(jobs, conn, migrated)
        job = await AgentWorker.enqueue("h", "u", "hi")
        producer = jobs.oban._producers["agents"]
        assert await producer._get_jobs() == []
        assert (await jobs.get_job(job.id)).state == "available"
        await give_back(conn)
        assert (await job.result(timeout=20)).text == "You said: hi"


async def test_a_job_that_is_no_longer_ours_is_cancelled(serve, conn, migrated):
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        """Work until cancelled."""
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "never"

    model = ScriptedModel(replies=lambda _: call("work"))
    agent = LlmAgent(name="a", model=model, tools=[work])
    async with serve(agents={"a": agent}, shutdown_grace_period=0) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await asyncio.wait_for(started.wait(), 10)
        await take_away(jobs, conn, migrated)
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET attempted_by = '{{x, y}}', "
            "attempted_at = attempted_at + interval '1 s' WHERE id = %s",
            (job.id,),
        )
        assert not ended.is_set()
        await give_back(conn)
        await asyncio.wait_for(ended.wait(), 10)
        await until(lambda: liveness_of(jobs).held)
    assert (await conn.execute(f"SELECT state FROM {migrated}.oban_jobs")).rowcount == 1


async def test_a_job_that_is_still_ours_goes_on(serve, conn, migrated):
    started, release = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        """Work until released."""
        started.set()
        await release.wait()
        return "done"

    def reply(request):
        parts = request.contents[-1].parts
        return "ok" if parts[0].function_response else call("work")

    agent = LlmAgent(name="a", model=ScriptedModel(replies=reply), tools=[work])
    async with serve(agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await asyncio.wait_for(started.wait(), 10)
        await take_away(jobs, conn, migrated)
        await give_back(conn)
        await until(lambda: liveness_of(jobs).held)
        release.set()
        assert (await job.result(timeout=20)).attempts == 1


async def test_a_blocked_loop_keeps_the_locks(serve, helper, conn, dsn, migrated):
    async with serve(agents={"h": helper}, lock_timeout=1):
        before = await holders(conn, migrated)
        with psycopg.connect(dsn) as blocking:
            blocking.execute("SELECT pg_sleep(2.5)")
        assert await holders(conn, migrated) == before


async def test_a_process_that_was_stopped_knows_by_the_clock(serve, helper):
    async with serve(agents={"h": helper}) as jobs:
        liveness = liveness_of(jobs)
        (uuid, *_) = liveness._locked
        assert liveness.allows(uuid)
        liveness._heard_until = 0.0
        assert not liveness.allows(uuid)


async def test_a_cut_network_costs_the_locks_on_both_sides(
    serve, helper, dsn, conn, migrated
):
    async with proxy(dsn) as cut:
        options = {"direct_dsn": cut.dsn, "lock_timeout": 1}
        async with serve(agents={"h": helper}, **options) as jobs:
            before = await holders(conn, migrated)
            cut.passing.clear()
            await until(lambda: not liveness_of(jobs).held)
            await until(lambda: _none(conn, migrated))
            cut.passing.set()
            await until(lambda: liveness_of(jobs).held)
            assert set(await holders(conn, migrated)) == set(before)


async def _none(conn: AsyncConnection, prefix: str) -> bool:
    return not await holders(conn, prefix)


async def test_stop_is_safe_before_start_and_twice(client, migrated):
    async def connect() -> AsyncConnection:
        raise ConnectionError("nobody there")

    liveness = Liveness(client.oban, connect, migrated)
    await liveness.stop()
    with pytest.raises(ConnectionError, match="nobody there"):
        await liveness.start()
    await liveness.stop()
    assert not liveness.held


async def test_a_start_that_is_cancelled_leaves_no_thread(client, migrated):
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def connect() -> AsyncConnection:
        loop.call_soon_threadsafe(asked.set)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    liveness = Liveness(client.oban, connect, migrated, lock_timeout=1)
    starting = asyncio.create_task(liveness.start())
    await asyncio.wait_for(asked.wait(), 10)
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting
    assert liveness._thread is None


def test_a_lock_timeout_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="lock_timeout must be 1 or more"):
        AdkOban("postgresql://x", lock_timeout=0.5)
