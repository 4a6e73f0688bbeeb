"""What the rescuer gives to others, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from oban import Job
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker, ScheduledJob, _oban
from adk_oban._rescuer import Rescuer
from adk_oban.errors import JobFailedError

type Execute = Callable[..., Awaitable[None]]


@pytest.fixture
async def server(serve, helper) -> AsyncIterator[AdkOban]:
    """A worker of a queue where nothing happens, whose own rescuer is idle."""
    async with serve(agents={"helper": helper}, queues={"quiet": 1}) as jobs:
        (own,) = (t for t in asyncio.all_tasks() if t.get_name() == "adk-oban-rescuer")
        own.cancel()
        yield jobs


@pytest.fixture
def rescuer(server) -> Rescuer:
    services = server._services
    workers = frozenset([*_oban.names_of(AgentWorker), *_oban.names_of(ScheduledJob)])
    hand_back = server._hand_back
    return Rescuer(
        services, services.liveness, hand_back, workers, patience=0, interval=60
    )


@pytest.fixture
def executing(conn, migrated) -> Execute:
    """Makes jobs look as if a producer ran them; one that is ours or somebody's."""

    async def execute(*ids: int, uuid: str, attempt: int = 1, ours: bool = True):
        if ours:
            await conn.execute(
                f"INSERT INTO {migrated}.adk_oban_producers (uuid, node) "
                "VALUES (%s, 'host.1') ON CONFLICT DO NOTHING",
                (uuid,),
            )
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET state = 'executing', attempt = %s, "
            "attempted_at = timezone('UTC', now()), attempted_by = ARRAY['host.1', %s] "
            "WHERE id = ANY (%s)",
            (attempt, uuid, [*ids]),
        )

    return execute


@asynccontextmanager
async def locked(dsn: str, prefix: str, uuid: str) -> AsyncIterator[None]:
    async with await AsyncConnection.connect(dsn, autocommit=True) as other:
        sql = f"SELECT pg_advisory_lock(hashtextextended('\"{prefix}\".' || %s, 0))"
        await other.execute(sql, (uuid,))
        yield


async def producers(conn: AsyncConnection, prefix: str) -> set[str]:
    rows = await conn.execute(f"SELECT uuid FROM {prefix}.adk_oban_producers")
    return {uuid for (uuid,) in await rows.fetchall()}


async def test_jobs_of_the_dead_are_available_again(server, rescuer, executing, conn):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await executing(job.id, uuid="dead")

    assert await rescuer.run_once() is None
    row = await server.oban.get_job(job.id)
    assert (row.state, row.attempt, row.meta["rescued"]) == ("available", 1, 1)
    assert set(row.errors[0]) == {"attempt", "at", "error"}
    assert row.errors[0]["error"] == (
        "the process of node host.1 ended without a word, "
        "before the first step of this job was recorded"
    )
    assert "dead" not in await producers(conn, server._prefix)


async def test_it_counts_how_often_a_job_was_rescued(server, rescuer, executing):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    for attempt in (1, 2):
        await executing(job.id, uuid="dead", attempt=attempt)
        await rescuer.run_once()

    row = await server.oban.get_job(job.id)
    assert (row.meta["rescued"], len(row.errors)) == (2, 2)


async def test_last_words_name_the_last_step(
    server, rescuer, executing, conn, migrated
):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    for key, name in (("a", "search"), ("b", "pay")):
        await conn.execute(
            f"INSERT INTO {migrated}.adk_oban_steps (job_id, segment, key, ordinal, "
            "version, kind, name, agent, branch, state, parts, attempt, began_at, "
            "recorded_at) VALUES (%s, 0, %s, 0, 1, 'tool', %s, 'shop', '', 'done', "
            "'[]', 1, now(), now())",
            (job.id, key, name),
        )
    await executing(job.id, uuid="dead")
    await rescuer.run_once()

    row = await server.oban.get_job(job.id)
    assert row.errors[0]["error"].endswith(
        "without a word, after the tool 'pay' of agent 'shop' (done)"
    )


async def test_jobs_of_the_living_go_on(server, rescuer, executing, dsn, conn):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await executing(job.id, uuid="alive")
    async with locked(dsn, server._prefix, "alive"):
        await rescuer.run_once()
        assert (await server.get_job(job.id)).state == "executing"
        assert "alive" in await producers(conn, server._prefix)


async def test_jobs_of_other_programs_go_on(server, rescuer, executing):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    plain = await server.oban.enqueue(Job("somebody.elses", queue="quieter"))
    await executing(job.id, plain.id, uuid="elixir", ours=False)
    await rescuer.run_once()

    assert (await server.get_job(job.id)).state == "executing"
    assert (await server.oban.get_job(plain.id)).state == "executing"


async def test_a_plain_job_of_ours_is_rescued_and_leaves_no_result(
    server, rescuer, executing, conn, migrated
):
    jobs = await server.oban.enqueue_many(Job("plain", queue="q") for _ in range(2))
    first, last = (job.id for job in jobs)
    await executing(first, uuid="dead")
    await executing(last, uuid="dead", attempt=20)
    await rescuer.run_once()

    assert (await server.oban.get_job(first)).state == "available"
    assert (await server.oban.get_job(last)).state == "discarded"
    rows = await conn.execute(f"SELECT FROM {migrated}.adk_oban_results")
    assert rows.rowcount == 0


async def test_after_the_last_attempt_a_job_is_discarded(server, rescuer, executing):
    job = await AgentWorker.enqueue("helper", "u", "hi", max_attempts=2)
    waiting = asyncio.create_task(job.result(timeout=20))
    await executing(job.id, uuid="dead", attempt=2)
    await rescuer.run_once()

    with pytest.raises(JobFailedError, match="ended without a word"):
        await waiting
    row = await server.oban.get_job(job.id)
    assert (row.state, row.attempt) == ("discarded", 2)
    assert row.discarded_at is not None
    assert "rescued" not in row.meta


@pytest.mark.parametrize(
    "args", [[1, "x"], "x", {"agent_config": "x"}, {"user_id": 7, "agent_module": {}}]
)
async def test_args_may_be_anything(server, rescuer, executing, conn, migrated, args):
    job = await AgentWorker.enqueue("helper", "u", "hi", max_attempts=1)
    sql = f"UPDATE {migrated}.oban_jobs SET args = %s WHERE id = %s"
    await conn.execute(sql, (json.dumps(args), job.id))
    await executing(job.id, uuid="dead")
    await rescuer.run_once()

    with pytest.raises(JobFailedError, match="ended without a word"):
        await job.result(timeout=5)


async def test_who_waits_behind_a_discarded_job_is_woken(
    server, rescuer, executing, conn, migrated
):
    named = {"session_id": "s", "max_attempts": 1}
    first = await AgentWorker.enqueue("helper", "u", "hi", **named)
    second = await AgentWorker.enqueue("helper", "u", "hi", **named)
    await executing(first.id, uuid="dead")
    await conn.execute(
        f"UPDATE {migrated}.oban_jobs SET state = 'scheduled', scheduled_at = now() "
        "+ interval '1 hour', meta = '{\"adk_oban_waits\": \"order\"}' WHERE id = %s",
        (second.id,),
    )
    await rescuer.run_once()

    assert (await server.get_job(first.id)).state == "discarded"
    assert (await server.get_job(second.id)).state == "available"


async def test_one_node_looks_at_a_time(server, rescuer, executing, dsn):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await executing(job.id, uuid="dead")
    async with locked(dsn, server._prefix, "adk_oban_rescuer"):
        # The key of leading has no dot of its own: it is no producer's.
        await rescuer.run_once()
        assert (await server.get_job(job.id)).state == "executing"
    await rescuer.run_once()
    assert (await server.get_job(job.id)).state == "available"


async def test_a_row_that_is_still_written_is_left_for_the_next_look(
    server, rescuer, executing, dsn, conn, migrated
):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await executing(job.id, uuid="dead")
    async with await AsyncConnection.connect(dsn) as writing:
        sql = f"SELECT FROM {migrated}.oban_jobs WHERE id = %s FOR UPDATE"
        await writing.execute(sql, (job.id,))
        await rescuer.run_once()
        assert (await server.get_job(job.id)).state == "executing"
        assert "dead" in await producers(conn, migrated)
    await rescuer.run_once()
    assert (await server.get_job(job.id)).state == "available"


async def test_right_after_the_start_of_the_server_it_waits(server, rescuer, executing):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await executing(job.id, uuid="dead")
    rescuer._patience = 1e9  # seconds since the server's start
    await rescuer.run_once()
    assert (await server.get_job(job.id)).state == "executing"


async def test_right_after_its_own_locks_were_lost_it_waits(
    server, rescuer, executing, conn
):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await executing(job.id, uuid="dead")
    liveness = server._services.liveness
    liveness._publish(frozenset(["x"]), liveness._session)
    assert liveness.held_for(5)
    await conn.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    )
    async with asyncio.timeout(20):
        while liveness._taken_again_at is None:
            await asyncio.sleep(0.01)
    # The server has started before that, and only this is new.
    sql = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())"
    (age,) = await (await conn.execute(sql)).fetchone()
    rescuer._patience = float(age) - 0.01
    assert liveness.held and not liveness.held_for(rescuer._patience)
    await rescuer.run_once()
    assert (await server.get_job(job.id)).state == "executing"


async def test_obans_lifeline_rescues_by_time_only_who_holds_no_lock(
    server, executing, dsn, conn, migrated
):
    first = await AgentWorker.enqueue("helper", "u", "hi")
    last = await AgentWorker.enqueue("helper", "u", "hi")
    await executing(first.id, uuid="elixir", ours=False)
    async with locked(dsn, migrated, "alive"):
        await executing(last.id, uuid="alive")
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET attempted_at = now() - interval '1 day'"
        )
        lifeline = server.oban._lifeline
        lifeline._leader = type("Leader", (), {"is_leader": True})()
        await lifeline._rescue()

        assert (await server.get_job(first.id)).state == "available"
        assert (await server.get_job(last.id)).state == "executing"
