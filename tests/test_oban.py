"""The seams to Oban's private parts: each test tells what broke when Oban changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version

import pytest
from oban import Job, Oban, worker
from oban._producer import Producer
from oban.worker import resolve_worker, worker_name
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from adk_oban import AdkOban, AgentWorker, ScheduledJob, _oban, _oban_producers


@pytest.fixture
async def oban(dsn, migrated):
    async with (
        AsyncConnectionPool(dsn, min_size=1, open=False) as pool,
        Oban(pool=pool, prefix=migrated, name="seam") as made,
    ):
        yield made


def test_the_seams_were_written_for_this_version():
    assert version("oban").split(".")[:2] == ["0", "7"]


@pytest.mark.parametrize(
    ("name", "worker"),
    [
        ("ADK.Oban.AgentWorker", AgentWorker),
        ("ADK.Oban.ScheduledJob", ScheduledJob),
        ("adk_oban.worker.AgentWorker", AgentWorker),
        ("adk_oban.scheduled.ScheduledJob", ScheduledJob),
    ],
)
def test_resolve_worker_finds_our_workers_by_all_their_names(name, worker):
    assert resolve_worker(name) is worker
    assert name in _oban.names_of(worker)


async def test_pool_prefix_and_name_can_be_read(oban, migrated):
    assert isinstance(_oban.pool_of(oban), AsyncConnectionPool)
    assert (_oban.prefix_of(oban), _oban.name_of(oban)) == (migrated, "seam")
    assert _oban.slots_of(oban) == 0


async def test_slots_are_the_sum_of_the_queues_limits(dsn, migrated):
    async with AsyncConnectionPool(dsn, open=False) as pool:
        queues = {"a": 3, "b": {"limit": 4}}
        made = Oban(pool=pool, prefix=migrated, name="slots", queues=queues)
        assert _oban.slots_of(made) == 7


async def test_services_travel_with_each_fetched_job(client):
    await AgentWorker.enqueue("helper", "u", "hi")
    inner = client.oban
    producer = Producer(
        query=inner._query,
        notifier=inner._notifier,
        name=inner._name,
        node="n",
        queue="agents",
    )
    (job,) = await producer._get_jobs()

    assert _oban.services_of(job) is client._services


async def test_services_are_bound_to_one_oban_and_taken_away(oban, client):
    _oban.bind(oban, client._services)
    assert _oban.services("seam") is client._services
    with pytest.raises(RuntimeError, match="named 'seam'"):
        _oban.bind(oban, client._services)

    _oban.unbind(oban)
    assert _oban.services("seam") is None


async def test_a_job_without_services_is_left_for_another_node(migrated, oban):
    job = AgentWorker.new(
        {"agent_module": "x", "user_id": "u", "message": "hi"}, oban="seam"
    )
    await oban.enqueue(job)

    assert await _oban.run_next(oban, "agents") == "scheduled"
    again = await oban.get_job(job.id)
    assert (again.attempt, again.meta["snoozed"]) == (0, 1)


async def test_notifications_on_a_channel_of_ours_arrive(oban, conn, migrated):
    heard = asyncio.Queue()
    token = await _oban.listen(
        oban, "adk_event", lambda channel, payload: heard.put_nowait(payload)
    )
    await conn.execute(
        "SELECT pg_notify(%s, %s)", (f"{migrated}.oban_adk_event", '{"job_id": 7}')
    )

    assert await asyncio.wait_for(heard.get(), 10) == {"job_id": 7}
    await _oban.unlisten(oban, token)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


async def cut(oban: Oban, conn: AsyncConnection) -> AsyncConnection:
    """Let the server end the connection that listens."""
    listening = oban._notifier._conn
    pid = listening.info.backend_pid
    await conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
    return listening


async def test_stopped_while_it_reconnects_it_leaves_no_task_and_no_connection(
    dsn, conn, migrated
):
    before = asyncio.all_tasks()
    async with AdkOban(dsn, prefix=migrated) as jobs:
        notifier = jobs.oban._notifier
        broken = await cut(jobs.oban, conn)
        await until(lambda: notifier._conn is None)
    assert broken.closed
    assert asyncio.all_tasks() == before


async def test_after_its_connection_broke_it_listens_on_one_other(dsn, conn, migrated):
    async with AdkOban(dsn, prefix=migrated) as jobs:
        notifier = jobs.oban._notifier
        broken = await cut(jobs.oban, conn)
        await until(lambda: notifier._conn not in (None, broken))
        beats = [t for t in asyncio.all_tasks() if "beat" in t.get_name()]
        assert beats == [notifier._beat_task]


async def test_default_backoff_is_obans():
    job = Job("w", attempt=1, max_attempts=3)

    assert 17 <= _oban.default_backoff(job) <= 19


async def test_a_running_job_has_an_event_for_its_cancellation(client):
    job = AgentWorker.new({"agent_module": "helper", "user_id": "u", "message": "hi"})
    assert _oban.cancellation_of(job) is None

    job._cancellation = asyncio.Event()
    assert _oban.cancellation_of(job) is job._cancellation


async def test_run_next_runs_and_acknowledges_one_job(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")

    assert await _oban.run_next(client.oban, "agents") == "completed"
    assert await _oban.run_next(client.oban, "agents") is None
    assert (await job.reload()).state == "completed"


def test_rows_become_jobs():
    assert worker_name(AgentWorker) == "adk_oban.worker.AgentWorker"
    assert "executing" in _oban.STATES
    assert len(_oban.STATES) == 8


def test_a_second_adk_oban_may_have_another_name(client):
    assert AdkOban("postgresql://x", name="other")


async def test_what_an_oban_runs_can_be_asked(dsn, migrated):
    async with AsyncConnectionPool(dsn, open=False) as pool:
        made = Oban(
            pool=pool,
            prefix=migrated,
            name="asked",
            node="here",
            queues={"a": 3, "b": 4},
            shutdown_grace_period=7,
        )
        uuids = {queue.uuid for queue in made.check_all_queues()}
        assert set(_oban_producers.uuids_of(made)) == uuids
        assert _oban_producers.node_of(made) == "here"
        assert _oban_producers.grace_of(made) == 7
        assert _oban_producers.running(made) == {}
        assert _oban_producers.unacknowledged(made) == []
        _oban_producers.wake(made)
        assert all(p._notified.is_set() for p in made._producers.values())
        _oban_producers.end_grace(made)
        assert {p._shutdown_grace_period for p in made._producers.values()} == {0}


async def test_running_jobs_can_be_asked(serve, helper):
    begun, release = asyncio.Event(), asyncio.Event()

    @worker(queue="agents")
    class Asked:
        async def process(self, job):
            begun.set()
            await release.wait()

    async with serve(agents={"helper": helper}) as jobs:
        job = await Asked.enqueue({})
        await asyncio.wait_for(begun.wait(), 10)
        (running,) = _oban_producers.running(jobs.oban).values()
        assert running.id == job.id
        assert _oban_producers.running(jobs.oban, workers={"other"}) == {}
        release.set()


async def test_what_has_ended_can_be_asked_and_acknowledged(client):
    oban = client.oban
    producer = Producer(
        query=oban._query,
        notifier=oban._notifier,
        name="Oban",
        node="n",
        queue="agents",
    )
    oban._producers["agents"] = producer
    await AgentWorker.enqueue("helper", "u", "hi", max_attempts=1)
    (job,) = await producer._get_jobs()
    job.worker = "no.such.Worker"
    await producer._execute(job)

    assert _oban_producers.unacknowledged(oban) == [job.id]
    await _oban_producers.acknowledge(oban)
    assert _oban_producers.unacknowledged(oban) == []
    assert (await client.get_job(job.id)).state == "discarded"


async def test_an_oban_whose_start_is_cancelled_leaves_nothing(dsn, migrated):
    async with AsyncConnectionPool(dsn, min_size=1, open=False) as pool:
        before = asyncio.all_tasks()
        made = _oban.make(pool=pool, prefix=migrated, name="half", queues={"a": 1})
        waiting = asyncio.Event()

        async def wait() -> None:
            waiting.set()
            await asyncio.Event().wait()

        made._scheduler.start = wait
        starting = asyncio.create_task(_oban.started(made).__aenter__())
        await asyncio.wait_for(waiting.wait(), 10)
        await until(lambda: made._notifier._conn)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert asyncio.all_tasks() == before
