"""Our statements for many rows do what Oban's own do for one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from oban import Job
from oban._executor import AckAction
from oban._query import _ack_jobs, _insert_jobs
from oban.job import TIMESTAMP_FIELDS
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import create_async_engine

from adk_oban import AgentWorker, _oban
from adk_oban._oban_queries import DONE, ack_jobs, insert_jobs

ERROR = {"attempt": 1, "at": "2026-01-01T00:00:00+00:00", "error": "boom"}

ACKS = {
    "completed": {"state": "completed"},
    "recorded": {"state": "completed", "meta": {"recorded": True, "return": "g3Q="}},
    "cancelled": {"state": "cancelled", "error": ERROR},
    "discarded": {"state": "discarded", "error": ERROR},
    "retryable": {"state": "retryable", "error": ERROR, "schedule_in": 17},
    "a part of a second": {"state": "retryable", "error": ERROR, "schedule_in": 2.5},
    "more than half": {"state": "retryable", "error": ERROR, "schedule_in": 3.5},
    "now": {"state": "retryable", "error": ERROR, "schedule_in": 0},
    "snoozed": {
        "state": "scheduled",
        "attempt_change": -1,
        "schedule_in": 60,
        "meta": {"snoozed": 2, "a": None, "nested": {"b": [1, 2.5, "x"]}},
    },
    "empty meta": {"state": "completed", "meta": {}},
}


@pytest.fixture
def query(client):
    return client.oban._query


async def running(query, **options) -> Job:
    """Insert a job, and fetch it as a producer would."""
    fields = {"queue": "q", "args": {"a": 1}, "meta": {"snoozed": 1, "m": "x"}}
    await _insert_jobs(query, [Job("w", **{**fields, **options})])
    (job,) = await query.fetch_jobs(demand=1, queue="q", node="n", uuid="u")
    return job


async def row_of(conn: AsyncConnection, prefix: str, job_id: int) -> dict:
    """Return a job's row, with times as seconds from now."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        sql = f"SELECT *, timezone('UTC', now()) AS now FROM {prefix}.oban_jobs"
        await cursor.execute(f"{sql} WHERE id = %s", (job_id,))
        row = await cursor.fetchone()
    now = row.pop("now")
    times = {name: row[name] and row[name] - now for name in TIMESTAMP_FIELDS}
    rough = {k: v and round(v.total_seconds() / 2) for k, v in times.items()}
    return {**row, **rough, "id": None}


@pytest.mark.parametrize("ack", ACKS.values(), ids=ACKS)
async def test_an_ack_leaves_what_obans_leaves(query, conn, migrated, ack):
    obans, ours = await running(query), await running(query)

    assert await _ack_jobs(query, [AckAction(job=obans, **ack)]) == [obans.id]
    assert await ack_jobs(query, [AckAction(job=ours, **ack)]) == [ours.id]
    expected = await row_of(conn, migrated, obans.id)
    assert await row_of(conn, migrated, ours.id) == expected


async def test_many_acks_are_written_at_once(query, conn, migrated):
    jobs = [await running(query) for _ in range(50)]
    acks = [
        AckAction(job=job, **[*ACKS.values()][number % len(ACKS)])
        for number, job in enumerate(jobs)
    ]
    assert set(await query.ack_jobs(acks)) == {job.id for job in jobs}
    rows = await conn.execute(f"SELECT id, state FROM {migrated}.oban_jobs ORDER BY id")
    assert await rows.fetchall() == [(ack.id, ack.state) for ack in acks]


async def test_an_ack_of_another_attempt_is_dropped(query, conn, migrated):
    stale, live = await running(query), await running(query)
    stale.attempted_at -= timedelta(microseconds=1)
    acks = [AckAction(job=job, state="completed") for job in (stale, live)]

    assert await ack_jobs(query, acks) == [live.id]
    assert (await row_of(conn, migrated, stale.id))["state"] == "executing"


async def test_an_ack_of_a_job_that_is_not_executing_is_dropped(query, conn, migrated):
    job = await running(query)
    await conn.execute(f"UPDATE {migrated}.oban_jobs SET state = 'available'")

    assert await ack_jobs(query, [AckAction(job=job, state="completed")]) == []
    assert (await row_of(conn, migrated, job.id))["state"] == "available"


async def test_what_a_turns_commit_has_completed_is_not_acked(query, conn, migrated):
    done, other = await running(query), await running(query)
    done.extra[DONE] = True
    acks = [AckAction(job=job, state="completed") for job in (done, other)]

    assert await ack_jobs(query, acks) == [done.id, other.id]
    assert await ack_jobs(query, acks[:1]) == [done.id]
    assert (await row_of(conn, migrated, done.id))["state"] == "executing"


async def test_an_error_may_say_what_postgres_cannot_hold(query, conn, migrated):
    job = await running(query)
    error = {**ERROR, "error": "NUL \0, half \ud800"}
    await ack_jobs(query, [AckAction(job=job, state="discarded", error=error)])

    row = await row_of(conn, migrated, job.id)
    assert row["errors"][0]["error"] == "NUL \ufffd, half \ufffd"


@pytest.mark.parametrize("ack", ["cancelled", "discarded", "waits for its turn"])
async def test_an_ack_wakes_who_waits_behind_it(query, conn, migrated, ack):
    kinds = {
        **ACKS,
        "waits for its turn": {
            "state": "scheduled",
            "schedule_in": 30,
            "meta": {"adk_oban_waits": "order"},
        },
    }
    args = {"user_id": "u", "session_id": "s"}
    first = await running(query, args=args)
    second = await AgentWorker.enqueue("helper", "u", "hi", session_id="s")
    await conn.execute(
        f"UPDATE {migrated}.oban_jobs SET state = 'scheduled', scheduled_at = now() "
        "+ interval '1 hour', meta = '{\"adk_oban_waits\": \"order\"}' WHERE id = %s",
        (second.id,),
    )
    await ack_jobs(query, [AckAction(job=first, **kinds[ack])])

    woken = first if ack == "waits for its turn" else second
    assert (await row_of(conn, migrated, woken.id))["state"] == "available"


async def test_acks_are_found_by_primary_key(query, conn, migrated):
    """After many acks the index of states is full of dead entries."""
    from adk_oban._query import statement

    await conn.execute(
        f"INSERT INTO {migrated}.oban_jobs (worker, state) "
        "SELECT 'w', 'completed' FROM generate_series(1, 20000)"
    )
    await conn.execute(f"ANALYZE {migrated}.oban_jobs")
    sql = "EXPLAIN " + statement("ack_jobs", migrated)
    acks = '[{"id": 1, "state": "completed"}]'
    rows = await conn.execute(sql, {"acks": acks, "ids": [*range(1, 20_000, 400)]})
    plan = "\n".join(line for (line,) in await rows.fetchall())
    assert "oban_jobs_pkey" in plan
    assert "Seq Scan" not in plan and "oban_jobs_state" not in plan


INSERTS = {
    "plain": {},
    "rich": {
        "args": {"text": 'é "quoted" \\ ☃', "deep": {"n": [1, 2.5, None, True]}},
        "meta": {"m": 1},
        "tags": ["a", "b c", "d,e", '"'],
        "priority": 3,
        "max_attempts": 5,
        "queue": 'q"\\',
    },
    "planned": {"scheduled_at": datetime(2100, 1, 1, 12, tzinfo=UTC)},
    "elsewhere": {
        "scheduled_at": datetime(2100, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    },
    "delayed": {"scheduled_in": 60},
    "suspended": {"state": "suspended"},
    "old": {"inserted_at": datetime(2020, 1, 1, tzinfo=UTC)},
}


@pytest.mark.parametrize("options", INSERTS.values(), ids=INSERTS)
async def test_an_insert_leaves_what_obans_leaves(query, conn, migrated, options):
    (obans,) = await _insert_jobs(query, [Job("w", **options)])
    (ours,) = await insert_jobs(query, [Job("w", **options)])

    expected = await row_of(conn, migrated, obans.id)
    assert await row_of(conn, migrated, ours.id) == expected
    assert ours.id == obans.id + 1
    for name in ("queue", "state"):
        assert getattr(ours, name) == getattr(obans, name)
    for name in ("inserted_at", "scheduled_at"):
        difference = abs(getattr(ours, name) - getattr(obans, name))
        assert difference < timedelta(seconds=5)


async def test_many_jobs_keep_their_order(client):
    jobs = [Job("w", args={"n": n}, queue=f"q{n % 3}") for n in range(500)]
    inserted = await client.oban.enqueue_many(jobs)

    assert inserted == jobs
    ids = [job.id for job in inserted]
    assert ids == sorted(ids)
    for job in (inserted[0], inserted[250], inserted[-1]):
        row = await client.oban.get_job(job.id)
        assert (row.args, row.queue) == (job.args, job.queue)


async def test_no_jobs_are_no_statement(client):
    assert await client.oban.enqueue_many([]) == []


async def test_each_queue_is_told_once(client, dsn, migrated):
    async with await AsyncConnection.connect(dsn, autocommit=True) as listening:
        await listening.execute(f'LISTEN "{migrated}.oban_insert"')
        jobs = [Job("w", queue=f"q{n % 2}") for n in range(10)]
        await client.oban.enqueue_many([*jobs, Job("w", queue="q", scheduled_in=9)])
        heard = [
            notification.payload
            async for notification in listening.notifies(timeout=10, stop_after=2)
        ]
        more = [n async for n in listening.notifies(timeout=0)]
    assert sorted(heard) == ['{"queue" : "q0"}', '{"queue" : "q1"}']
    assert more == []


async def test_an_insert_takes_part_in_the_callers_transaction(client, dsn):
    async with await AsyncConnection.connect(dsn) as conn:
        job = await client.oban.enqueue(Job("w"), conn=conn)
        assert await client.oban.get_job(job.id) is None
        await conn.rollback()
        async with conn.cursor() as cursor:
            kept = await client.oban.enqueue(Job("w"), conn=cursor)
        await conn.commit()
    assert await client.oban.get_job(job.id) is None
    assert (await client.oban.get_job(kept.id)).state == "available"


async def test_an_insert_takes_part_in_a_transaction_of_sqlalchemy(client, server):
    engine = create_async_engine("postgresql+psycopg://", connect_args=_args(server))
    async with engine.connect() as conn, conn.begin() as transaction:
        gone = await client.oban.enqueue(Job("w"), conn=conn)
        await transaction.rollback()
    async with engine.begin() as conn:
        kept = await client.oban.enqueue(Job("w"), conn=conn)
    await engine.dispose()
    assert await client.oban.get_job(gone.id) is None
    assert (await client.oban.get_job(kept.id)).id == kept.id


def _args(dsn: str) -> dict:
    from psycopg.conninfo import conninfo_to_dict

    return conninfo_to_dict(dsn)


async def test_an_oban_without_services_keeps_its_own_statements(client, query):
    _oban.unbind(client.oban)
    job = Job("w", queue="q")
    assert await query.insert_jobs([job]) == [job]
    (fetched,) = await query.fetch_jobs(demand=1, queue="q", node="n", uuid="u")
    fetched.extra[DONE] = True  # which Oban's own does not know
    acked = await query.ack_jobs([AckAction(job=fetched, state="completed")])
    assert acked == [job.id]
    assert (await client.oban.get_job(job.id)).state == "completed"
