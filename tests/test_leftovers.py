"""What jobs leave behind is deleted in time, and not before."""

from __future__ import annotations

from datetime import timedelta

from adk_oban import AgentWorker
from adk_oban._leftovers import Leftovers
from adk_oban.testing import drain

NOW, WEEK = timedelta(0), timedelta(days=7)


def leftovers(client) -> Leftovers:
    services = client._services
    return Leftovers(services.pool, services.prefix)


async def test_events_stay_for_a_while_and_as_long_as_their_job_lives(
    client, conn, migrated
):
    await AgentWorker.enqueue("helper", "u", "hi")
    await drain(client)
    assert await leftovers(client).prune(WEEK, WEEK) == [0, 0, 0]
    await conn.execute(f"UPDATE {migrated}.oban_jobs SET state = 'retryable'")
    assert await leftovers(client).prune(NOW, NOW) == [0, 0, 0]
    await conn.execute(f"UPDATE {migrated}.oban_jobs SET state = 'completed'")

    # The agent's event, and three that say how the job moved.
    assert await leftovers(client).prune(WEEK, NOW, limit=3) == [3, 0, 0]
    assert (await leftovers(client).prune(WEEK, NOW))[0] > 0
    assert await leftovers(client).prune(WEEK, NOW) == [0, 0, 0]


async def test_answered_approvals_go_when_their_job_is_gone(client, conn, migrated):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await conn.execute(
        f"INSERT INTO {migrated}.adk_oban_approvals (job_id, segment, call_id, kind, "
        "app_name, user_id, session_id, agent, tool, state, answered_at) SELECT %s, 0, "
        "state, 'confirmation', 'a', 'u', 's', 'a', 't', state, at FROM (VALUES "
        "('approved', now() - interval '1 day'), ('open', NULL)) AS each (state, at)",
        [job.id],
    )
    assert await leftovers(client).prune(NOW, NOW) == [0, 0, 0]
    await conn.execute(f"DELETE FROM {migrated}.oban_jobs")

    assert await leftovers(client).prune(WEEK, WEEK) == [0, 0, 0]
    # The open one was withdrawn with its job, just now.
    hour = timedelta(hours=1)
    assert await leftovers(client).prune(hour, hour) == [0, 1, 0]
    assert await leftovers(client).prune(NOW, NOW) == [0, 1, 0]


async def test_unique_keys_go_when_they_stand_for_nothing(client, conn, migrated):
    await conn.execute(
        f"INSERT INTO {migrated}.adk_oban_uniques (key, job_id, expires_at) VALUES "
        "('over', 1, now() - interval '1 s'), ('stands', 2, now() + interval '1 h'), "
        "('for ever', 3, NULL)"
    )
    assert await leftovers(client).prune(WEEK, WEEK) == [0, 0, 1]
    rows = await conn.execute(f"SELECT key FROM {migrated}.adk_oban_uniques")
    assert {key for (key,) in await rows.fetchall()} == {"stands", "for ever"}
