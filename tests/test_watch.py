"""Watching jobs: one connection listens, and nothing is asked while nothing happens."""

from __future__ import annotations

import asyncio

import pytest
from oban import Oban
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from adk_oban import AdkOban, AgentWorker, _channel
from adk_oban._watch import Watcher
from adk_oban.jobs import AgentJob
from adk_oban.testing import drain
from pg_proxy import proxy
from test_events import all_of, told, until_watched


async def say(conn: AsyncConnection, prefix: str, job_id: int, **more: str) -> None:
    told = ", ".join(
        [f'"job_id": {job_id}', *(f'"{k}": "{v}"' for k, v in more.items())]
    )
    await conn.execute(
        "SELECT pg_notify(%s, %s)", (f"{prefix}.oban_adk_event", f"{{{told}}}")
    )


@pytest.fixture
def statements(monkeypatch):
    """What goes to the database through pools from here on."""
    sent = []
    connection = AsyncConnectionPool.connection

    def counted(self, *args, **kwargs):
        sent.append(self)
        return connection(self, *args, **kwargs)

    monkeypatch.setattr(AsyncConnectionPool, "connection", counted)
    return sent


async def test_nothing_is_asked_while_nothing_happens(
    client, conn, migrated, statements
):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    waiting = [
        asyncio.create_task(job.result(timeout=60)),
        asyncio.create_task(all_of(job)),
    ]
    await until_watched(client, job)
    # A job of another's, and after it one of ours: whoever hears that has heard both.
    async with client._services.watch.job(job.id + 1) as other:
        await listening(client, other)
        await until_watched(client, job)
        statements.clear()
        await say(conn, migrated, job.id + 1, type="x")
        await other.wait(10)
        assert statements == []

    await drain(client)
    await asyncio.gather(*waiting)


async def test_who_waits_for_a_result_hears_only_how_the_job_moves(
    client, conn, migrated
):
    watch = client._services.watch
    async with watch.job(7) as result, watch.job(7, every=True) as follower:
        await listening(client, result, follower)
        await say(conn, migrated, 7)
        await follower.wait(10)
        assert (follower.changed, result.changed) == (True, False)
        await say(conn, migrated, 7, type="failed")
        await result.wait(10)
        assert result.changed


async def listening(jobs: AdkOban, *watchers: Watcher) -> None:
    """Wait until the connection listens, and those who watch have heard that."""
    async with asyncio.timeout(10):
        while jobs.oban._notifier._pending_listen:
            await asyncio.sleep(0.01)
    for watcher in watchers:
        watcher.changed = False
        watcher._arrived.clear()


async def test_a_channel_is_left_when_the_last_one_has_gone(
    client, conn, migrated, monkeypatch
):
    monkeypatch.setattr(_channel, "_LINGER", 0.0)
    watch, notifier = client._services.watch, client.oban._notifier
    async with watch.job(7), watch.job(8):
        assert "adk_event" in notifier._subscriptions
    async with asyncio.timeout(10):
        while "adk_event" in notifier._subscriptions:
            await asyncio.sleep(0)

    # At once again, while the connection is about to stop listening.
    async with watch.job(7) as watcher:
        await listening(client, watcher)
        await say(conn, migrated, 7, type="x")
        await watcher.wait(10)
        assert watcher.changed


async def test_a_hundred_watchers_share_one_subscription(client):
    watch, notifier = client._services.watch, client.oban._notifier

    async def come_and_go(n: int) -> None:
        async with watch.job(n % 7, partials=n % 2 == 0):
            await asyncio.sleep(0)
            assert len(notifier._subscriptions["adk_event"]) == 1

    await asyncio.gather(*(come_and_go(n) for n in range(100)))
    assert watch._events._users == watch._partials._users == 0
    assert not watch._watchers and not watch._readers


async def test_a_lost_listening_connection_loses_no_event(dsn, migrated, helper, conn):
    async with (
        proxy(dsn) as between,
        AdkOban(between.dsn, prefix=migrated, name="client", pool_size=2) as far,
        AdkOban(dsn, prefix=migrated, agents={"helper": helper}) as near,
    ):
        job = await AgentWorker.enqueue("helper", "u", "hi", oban="client")
        following = asyncio.create_task(all_of(job))
        await until_watched(far, job)
        await between.close()
        # It ends while nobody listens.
        await drain(near)

        assert told(await following)[-1] == ("completed", "You said: hi")


async def test_the_notifier_of_anothers_oban_is_not_relied_upon(
    dsn, migrated, helper, conn
):
    class Deaf:
        """Another's notifier, whose connection has been lost for good."""

        async def start(self) -> None: ...
        async def stop(self) -> None: ...
        async def listen(self, *_args, **_options) -> str:
            return "token"

        async def unlisten(self, _token) -> None: ...
        async def notify(self, *_args) -> None: ...

    async with AsyncConnectionPool(dsn, open=False) as pool:
        oban = Oban(pool=pool, prefix=migrated, name="theirs")
        oban._notifier = Deaf()
        async with AdkOban(oban=oban, agents={"helper": helper}) as jobs:
            job = await AgentWorker.enqueue("helper", "u", "hi", oban="theirs")
            following = asyncio.create_task(all_of(job))
            await asyncio.sleep(0)
            await drain(jobs)
            assert told(await following)[-1] == ("completed", "You said: hi")
            assert (await job.result(timeout=10)).text == "You said: hi"


async def test_who_still_waits_when_adk_oban_stops_is_told(dsn, migrated):
    async with AsyncConnectionPool(dsn, open=False) as pool:
        async with AdkOban(pool=pool, prefix=migrated) as jobs:
            job = await AgentWorker.enqueue("helper", "u", "hi")
            waiting = [
                asyncio.create_task(job.result()),
                asyncio.create_task(_first(job)),
            ]
            await until_watched(jobs, job, 2)
        for each in waiting:
            with pytest.raises(RuntimeError, match="has stopped"):
                await each


async def _first(job: AgentJob) -> None:
    async for _ in job.events():
        raise AssertionError("nothing has happened")
