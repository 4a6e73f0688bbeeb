"""Finding jobs: by each filter and its index, a page at a time, and many at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker, ScheduledJob
from adk_oban._filter import Filter
from adk_oban._listing import Listing
from adk_oban.testing import drain

ROWS = 20_000
NOW = datetime.now(UTC)

SEED = """
INSERT INTO {schema}.oban_jobs (worker, queue, state, args, tags, inserted_at)
SELECT
  'adk_oban.worker.AgentWorker',
  CASE WHEN n % 1000 = 0 THEN 'rare' ELSE 'agents' END,
  CASE WHEN n % 100 = 99 THEN 'discarded' ELSE 'completed' END::{schema}.oban_job_state,
  jsonb_build_object(
    'agent_module', 'agent-' || n % 20, 'app_name', 'shop', 'message', 'hi',
    'user_id', 'user-' || n % 1000, 'session_id', 'session-' || n % 4000
  ),
  CASE WHEN n % 100 = 50 THEN ARRAY['t' || n / 100 % 50] ELSE '{}' END,
  timezone('UTC', now()) - make_interval(secs => {rows} - n)
FROM generate_series(1, {rows}) AS n
"""

BY = [
    {},
    {"state": "completed"},
    {"state": "discarded"},
    {"state": "executing"},
    {"state": ["discarded", "cancelled"]},
    {"queue": "agents"},
    {"queue": "rare"},
    {"queue": "absent"},
    {"agent": "agent-3"},
    {"agent": "absent"},
    {"app_name": "shop"},
    {"app_name": "absent"},
    {"user_id": "user-3"},
    {"user_id": "absent"},
    {"session_id": "session-3"},
    {"session_id": "absent"},
    {"tag": "t3"},
    {"tag": "absent"},
    {"since": NOW - timedelta(minutes=1)},
    {"since": NOW + timedelta(days=1)},
    {"until": NOW - timedelta(hours=5)},
    {"until": NOW - timedelta(days=1)},
    {"user_id": "user-3", "state": "completed"},
    {"user_id": "user-3", "app_name": "shop", "agent": "agent-3"},
    {"agent": "agent-3", "state": "executing"},
    {"agent": "agent-3", "since": NOW - timedelta(hours=1)},
    {"tag": "t3", "agent": "agent-3"},
]


@pytest.fixture
async def many(conn: AsyncConnection, migrated: str) -> AsyncIterator[str]:
    """A schema with many jobs in it, which the planner knows nothing of yet."""
    sql = SEED.replace("{schema}", migrated).replace("{rows}", str(ROWS))
    await conn.execute(f"ALTER TABLE {migrated}.oban_jobs SET (autovacuum_enabled=off)")
    await conn.execute(sql)
    yield migrated


async def scans(conn: AsyncConnection, schema: str, filters: Any) -> list[Any]:
    """Return how a page is read: the nodes of the plan that read something."""
    listing = Listing(None, schema)  # type: ignore[arg-type]
    sql, values = listing.statement("merge_jobs", Filter.of(**filters), None, 51)
    cursor = await conn.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql, values)
    ((found,),) = await cursor.fetchall()
    return [n for n in nodes(found[0]["Plan"]) if "Relation Name" in n]


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def rows_read(scan: Any) -> int:
    passed_over = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    each = scan["Actual Rows"] + sum(scan.get(name, 0) for name in passed_over)
    return int(each * scan["Actual Loops"])


async def test_no_filter_reads_the_whole_table_before_it_is_analyzed(conn, many):
    for filters in BY:
        read = {scan["Node Type"] for scan in await scans(conn, many, filters)}
        assert read
        assert "Seq Scan" not in read, filters


async def test_a_filter_reads_what_it_finds_and_little_more(conn, many):
    await conn.execute(f"ANALYZE {many}.oban_jobs")
    for filters in BY:
        found = await scans(conn, many, filters)
        assert "Seq Scan" not in {scan["Node Type"] for scan in found}, filters
        assert sum(map(rows_read, found)) <= 500, filters


async def test_every_filter_finds_what_a_plain_search_finds(conn, many, dsn):
    async with AdkOban(dsn, prefix=many) as jobs:
        everything = [job async for job in walk(jobs, limit=1000)]
        assert len(everything) == ROWS
        for filters in BY:
            found = [job.id async for job in walk(jobs, limit=1000, **filters)]
            assert found == [j.id for j in everything if matches(j, **filters)], filters


async def walk(jobs: AdkOban, *, limit: int, **filters: Any) -> AsyncIterator[Any]:
    page = await jobs.list_jobs(limit=limit, **filters)
    while True:
        for job in page:
            yield job
        if page.next is None:
            return
        page = await jobs.list_jobs(limit=limit, after=page.next, **filters)


def matches(job: Any, since=None, until=None, state=None, tag=None, **texts) -> bool:
    states = [state] if isinstance(state, str) else state
    return (
        (states is None or job.state in states)
        and (tag is None or tag in job.tags)
        and (since is None or job.inserted_at >= since)
        and (until is None or job.inserted_at < until)
        and all(value_of(job, name) == value for name, value in texts.items())
    )


def value_of(job: Any, name: str) -> Any:
    return job.args["app_name"] if name == "app_name" else getattr(job, name)


async def test_pages_stay_right_while_jobs_come(client):
    ids = [(await AgentWorker.enqueue("helper", "u", str(n))).id for n in range(5)]
    first = await client.list_jobs(limit=2)
    await AgentWorker.enqueue("helper", "u", "one more")
    second = await client.list_jobs(limit=2, after=first.next)
    third = await client.list_jobs(limit=2, after=second.next)

    assert [j.id for page in (first, second, third) for j in page] == ids[::-1]
    assert (len(first), third.next) == (2, None)


async def test_a_page_that_is_just_full_is_the_last(client):
    for n in range(2):
        await AgentWorker.enqueue("helper", "u", str(n))

    assert (await client.list_jobs(limit=2)).next is None


async def test_jobs_of_one_transaction_have_their_order(client):
    made = [
        AgentWorker.new({"agent_module": "helper", "user_id": "u", "message": str(n)})
        for n in range(30)
    ]
    ids = [job.id for job in await client.oban.enqueue_many(made)]

    assert [job.id async for job in walk(client, limit=7)] == ids[::-1]


async def test_jobs_of_other_workers_are_not_listed(client, conn, migrated):
    await conn.execute(f"INSERT INTO {migrated}.oban_jobs (worker) VALUES ('mine.Own')")

    assert len(await client.list_jobs()) == 0
    assert await client.cancel_jobs(state="available") == 0


async def test_inline_agents_and_tags_are_found_by_their_names(client):
    config = {"model": "gemini-flash-latest", "name": "inline"}
    inline = await AgentWorker.enqueue(config, "u", "hi", tags=["Red ", "blue"])
    flat = await ScheduledJob.schedule(
        {"agent_name": "flat", "model": "gemini-flash-latest", "instruction": "Be."}
    )

    assert [j.id for j in await client.list_jobs(agent="inline")] == [inline.id]
    assert [j.id for j in await client.list_jobs(agent="flat")] == [flat.id]
    assert [j.id for j in await client.list_jobs(tag="RED")] == [inline.id]


async def test_an_agent_with_a_very_long_name_can_be_enqueued_and_found(dsn, migrated):
    name = "".join(f"module{n}." for n in range(1000))
    async with AdkOban(dsn, prefix=migrated) as jobs:
        job = await AgentWorker.enqueue(name, "u", "hi")
        assert [j.id for j in await jobs.list_jobs(agent=name)] == [job.id]


NAIVE = datetime(2030, 1, 1)

WRONG = [
    ({"state": "done"}, ValueError, "'done'"),
    ({"state": ["available", "done"]}, ValueError, "'done'"),
    ({"state": []}, ValueError, "got none"),
    ({"state": 1}, TypeError, "got 1"),
    ({"since": NAIVE}, ValueError, "since must have a time zone"),
    ({"until": NAIVE}, ValueError, "until must have a time zone"),
    ({"until": "now"}, TypeError, "until must be a datetime, got 'now'"),
    ({"user_id": ""}, ValueError, "user_id must not be blank"),
    ({"user_id": 7}, TypeError, "user_id must be a string, got 7"),
    ({"tag": "a\0b"}, ValueError, "NUL"),
    ({"user": "u"}, TypeError, r"unknown filters \['user'\]"),
    ({"limit": 0}, ValueError, "limit must be 1 to 1000, got 0"),
    ({"limit": 1001}, ValueError, "got 1001"),
    ({"limit": True}, TypeError, "limit must be a whole number"),
    ({"after": "17"}, ValueError, "got '17'"),
    ({"after": 17}, TypeError, "got 17"),
    ({"after": "1-99999999999999999999"}, ValueError, "cursor"),
    ({"after": "999999999999999999-1"}, ValueError, "cursor"),
]


@pytest.mark.parametrize(("given", "error", "message"), WRONG)
async def test_wrong_filters_are_refused_with_their_value(
    client, given, error, message
):
    with pytest.raises(error, match=message):
        await client.list_jobs(**given)


async def test_jobs_are_cancelled_by_filter(client):
    mine = await AgentWorker.enqueue("helper", "u1", "1")
    other = await AgentWorker.enqueue("helper", "u2", "2")

    assert await client.cancel_jobs(user_id="u1", reason="gone") == 1
    assert (await mine.reload()).state == "cancelled"
    assert (await mine.reload()).errors[-1]["error"] == "gone"
    assert (await other.reload()).state == "available"
    assert await client.cancel_jobs(user_id="u1") == 0


async def test_more_jobs_than_a_batch_are_cancelled_and_retried(client, conn, many):
    live = f"UPDATE {many}.oban_jobs SET state = 'available' WHERE id <= 2500"
    await conn.execute(live)

    assert await client.cancel_jobs(app_name="shop") == 2500
    assert await client.retry_jobs(state="cancelled") == 2500
    assert await client.retry_jobs(state="cancelled") == 0


async def test_only_jobs_without_an_answer_are_retried(client):
    answered = await AgentWorker.enqueue("helper", "u", "1")
    await drain(client)
    cancelled = await AgentWorker.enqueue("helper", "u", "2")
    await cancelled.cancel()

    assert await client.retry_jobs(user_id="u") == 1
    assert (await answered.reload()).state == "completed"
    assert (await cancelled.reload()).state == "available"


@pytest.mark.parametrize("verb", ["cancel_jobs", "retry_jobs"])
async def test_all_jobs_at_once_must_be_asked_for(client, verb):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    with pytest.raises(ValueError, match=f"{verb} needs a filter"):
        await getattr(client, verb)()
    with pytest.raises(ValueError, match=f"{verb} is for jobs in .* got 'completed'"):
        await getattr(client, verb)(state="completed")
    assert (await job.reload()).state == "available"
