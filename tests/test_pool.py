"""Connections: pooled ones, direct ones, and those that lead elsewhere."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from adk_oban import AdkOban, AgentWorker
from adk_oban._pool import direct, is_pooled, open_pool
from adk_oban.errors import DatabaseUnavailableError
from pg_proxy import proxy


async def test_a_pooler_is_told_from_a_server(dsn):
    async with proxy(dsn) as plain, proxy(dsn, pooler=True) as pooler:
        for where, expected in ((dsn, False), (plain.dsn, False), (pooler.dsn, True)):
            async with await AsyncConnection.connect(where) as conn:
                assert await is_pooled(conn) is expected


@pytest.mark.parametrize("queues", [{}, {"agents": 1}])
async def test_a_pooler_alone_is_refused(dsn, migrated, helper, queues):
    async with proxy(dsn, pooler=True) as pooler:
        jobs = AdkOban(pooler.dsn, prefix=migrated, queues=queues, agents={"h": helper})
        with pytest.raises(DatabaseUnavailableError, match="direct_dsn, --direct-dsn"):
            await jobs.start()


async def test_a_pool_behind_a_pooler_is_refused(dsn, migrated):
    async with (
        proxy(dsn, pooler=True) as pooler,
        AsyncConnectionPool(pooler.dsn, min_size=1, open=False) as pool,
    ):
        with pytest.raises(DatabaseUnavailableError, match="direct_dsn"):
            await AdkOban(pool=pool, prefix=migrated).start()


async def test_beside_a_pooler_a_direct_connection_listens_and_locks(
    serve, dsn, migrated, helper
):
    async with proxy(dsn, pooler=True) as pooler:
        options = {"prefix": migrated, "agents": {"h": helper}, "direct_dsn": dsn}
        async with AdkOban(pooler.dsn, queues={"agents": 1}, **options) as jobs:
            job = await AgentWorker.enqueue("h", "u", "hi")
            assert (await job.result(timeout=20)).text == "You said: hi"
            assert not await is_pooled(jobs.oban._notifier._conn)
            async with jobs._services.pool.connection() as conn:
                assert conn.prepare_threshold is None


async def test_a_direct_dsn_of_a_pooler_is_refused_too(dsn, migrated):
    async with proxy(dsn, pooler=True) as pooler:
        jobs = AdkOban(pooler.dsn, prefix=migrated, direct_dsn=pooler.dsn)
        with pytest.raises(DatabaseUnavailableError, match="is a connection pooler"):
            await jobs.start()


async def test_a_direct_dsn_may_come_from_the_environment(
    dsn, migrated, helper, monkeypatch
):
    monkeypatch.setenv("ADK_OBAN_DIRECT_DSN", dsn)
    async with proxy(dsn, pooler=True) as pooler:
        async with AdkOban(pooler.dsn, prefix=migrated) as jobs:
            assert not await is_pooled(jobs.oban._notifier._conn)


async def test_a_direct_dsn_of_another_database_is_refused(dsn, migrated, database):
    jobs = AdkOban(dsn, prefix=migrated, direct_dsn=database)
    with pytest.raises(ValueError, match="leads to another database"):
        await jobs.start()


async def test_a_direct_dsn_that_leads_nowhere_is_a_clear_error(dsn, migrated):
    nowhere = "postgresql://me:secret@127.0.0.1:1/nothing"
    jobs = AdkOban(dsn, prefix=migrated, direct_dsn=nowhere)
    with pytest.raises(DatabaseUnavailableError, match="cannot connect") as caught:
        await jobs.start()
    assert "secret" not in str(caught.value)


async def test_a_direct_connection_is_made_as_the_pool_makes_its_own(dsn):
    async def conninfo() -> str:
        return dsn

    async with AsyncConnectionPool(
        conninfo, kwargs={"application_name": "mine"}, min_size=1, open=False
    ) as pool:
        conn = await direct(pool, None)()
        async with conn:
            rows = await conn.execute("SHOW application_name")
            assert await rows.fetchone() == ("mine",)


async def test_a_direct_pool_prepares_statements(dsn):
    pool = await open_pool(dsn, max_size=1)
    async with pool, pool.connection() as conn:
        assert conn.prepare_threshold == 5


async def test_all_connections_that_ended_while_idle_are_replaced_at_once(dsn):
    async with proxy(dsn) as between:
        pool = await open_pool(between.dsn, max_size=10)
        async with pool:
            async with AsyncExitStack() as stack:
                for _ in range(8):
                    await stack.enter_async_context(pool.connection())
            await between.close()

            # One at a time, with the pool's pauses, they would take a minute.
            async with pool.connection(timeout=10) as conn:
                await conn.execute("SELECT 1")
