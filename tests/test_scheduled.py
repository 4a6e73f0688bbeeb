"""ScheduledJob and schedules: exactly one job a tick, whoever is there."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
from google.adk.agents import LlmAgent
from psycopg.types.json import Jsonb

from adk_oban import AdkOban, AgentWorker, Schedule, ScheduledJob
from adk_oban._ticker import Ticker
from adk_oban.testing import ScriptedModel, drain
from test_worker import count_jobs, insert_row


async def test_a_scheduled_job_has_the_origins_defaults(client):
    job = await ScheduledJob.schedule("helper")

    assert (job.queue, job.max_attempts) == ("scheduled", 3)
    assert job.args["user_id"] == "system"
    assert job.args["message"] == "Run scheduled task"
    assert job.args["app_name"] == "adk_scheduled"
    assert re.fullmatch(r"scheduled-[A-Za-z0-9_-]{11}", job.session_id)
    await drain(client)
    assert (await job.result(timeout=5)).text == "You said: Run scheduled task"


async def test_all_of_it_may_be_said(client):
    job = await ScheduledJob.schedule(
        "helper",
        user_id="u",
        message="hello",
        app_name="app",
        session_id="s",
        queue="later",
        schedule_in=timedelta(minutes=1),
        priority=1,
        tags=["t"],
    )

    assert (job.state, job.queue, job.priority) == ("scheduled", "later", 1)
    assert job.args == {
        "agent_module": "helper",
        "user_id": "u",
        "message": "hello",
        "app_name": "app",
        "session_id": "s",
    }


async def test_args_may_be_given_instead_of_an_agent(client):
    job = await ScheduledJob.schedule({"agent_module": "helper", "message": "tidy up"})

    await drain(client)
    assert (await job.result(timeout=5)).text == "You said: tidy up"


FLAT = {
    "agent_name": "cleaner",
    "model": "gemini-flash-latest",
    "instruction": "Clean.",
    "message": "Go",
    "user_id": "u",
    "app_name": "app",
}


@pytest.mark.parametrize("make", ["new", "schedule"])
async def test_the_origins_flat_inline_agent_is_understood(client, make):
    if make == "new":
        job = await client.enqueue(ScheduledJob.new(FLAT))
    else:
        job = await ScheduledJob.schedule(FLAT)

    assert job.args["agent_config"] == {
        "name": "cleaner",
        "model": "gemini-flash-latest",
        "instruction": "Clean.",
    }
    assert (job.args["message"], job.args["app_name"]) == ("Go", "app")


async def test_a_flat_agent_beside_another_is_refused(client):
    with pytest.raises(ValueError, match="beside agent_module"):
        ScheduledJob.new({**FLAT, "agent_module": "helper"})
    with pytest.raises(ValueError, match="unknown keys"):
        AgentWorker.new(FLAT)


@pytest.mark.parametrize(
    "worker", ["ADK.Oban.ScheduledJob", "adk_oban.scheduled.ScheduledJob"]
)
async def test_a_row_that_another_program_inserted_runs(client, conn, migrated, worker):
    args = {"agent_module": "helper"}
    id = await insert_row(conn, migrated, worker, args, queue="scheduled")
    assert await drain(client) == {"completed": 1}

    result = await client.get_result(id)
    assert (result.user_id, result.app_name) == ("system", "adk_scheduled")
    assert result.session_id == f"scheduled-{id}"


async def due(conn, prefix: str, name: str, ago: float) -> None:
    """Set the clock back for one schedule: its tick was so many seconds ago."""
    await conn.execute(
        f"UPDATE {prefix}.adk_oban_schedules "
        "SET next_run_at = date_trunc('minute', now() - %s * interval '1 second') "
        "WHERE name = %s",
        (ago, name),
    )


def ticker(jobs: AdkOban, prefix: str) -> Ticker:
    return Ticker(jobs.oban, jobs._services.pool, prefix)


async def test_a_schedule_that_is_due_makes_its_job(client, conn, migrated):
    schedule = Schedule(
        "* * * * *",
        "helper",
        message="tick",
        user_id="u",
        queue="scheduled",
        tags=["nightly"],
        meta={"team": "ops"},
        priority=7,
    )
    await client.schedules.add(schedule)
    await due(conn, migrated, "helper * * * * *", 59)
    await ticker(client, migrated).run_once()

    (job,) = await client.list_jobs()
    assert (job.worker, job.queue, job.priority, job.tags) == (
        "adk_oban.scheduled.ScheduledJob",
        "scheduled",
        7,
        ("nightly",),
    )
    assert job.meta["team"] == "ops"
    assert job.meta["cron"] is True
    assert job.meta["cron_expr"] == "* * * * *"
    assert job.meta["cron_name"] == "helper * * * * *"
    (stored,) = await client.schedules.list()
    assert stored.last_job_id == job.id
    assert stored.last_run_at.isoformat() == job.meta["cron_at"]
    await drain(client)
    assert (await job.result(timeout=5)).text == "You said: tick"


async def test_a_schedule_that_is_not_due_makes_none(client, conn, migrated):
    await client.schedules.add(Schedule("0 0 1 1 *", "helper"))

    wait = await ticker(client, migrated).run_once()
    assert wait > 0
    assert await count_jobs(conn, migrated) == 0


async def test_ten_nodes_make_one_job_of_a_tick(client, dsn, conn, migrated):
    await client.schedules.add(Schedule("0 0 1 1 *", "helper", missed="run_once"))
    await due(conn, migrated, "helper 0 0 1 1 *", 5)
    tickers = [ticker(client, migrated) for _ in range(10)]
    for _ in range(3):
        await asyncio.gather(*(one.run_once() for one in tickers))

    assert await count_jobs(conn, migrated) == 1


@pytest.mark.parametrize(("missed", "made"), [("skip", 0), ("run_once", 1)])
async def test_missed_ticks_are_skipped_or_made_up_for_once(
    client, conn, migrated, missed, made
):
    await client.schedules.add(Schedule("0 0 1 1 *", "helper", missed=missed))
    await conn.execute(
        f"UPDATE {migrated}.adk_oban_schedules SET next_run_at = '2020-01-01T00:00Z'"
    )
    await ticker(client, migrated).run_once()
    await ticker(client, migrated).run_once()

    assert await count_jobs(conn, migrated) == made
    (stored,) = await client.schedules.list()
    assert stored.next_run_at > datetime.now(UTC)


async def test_a_paused_schedule_rests_and_a_resumed_one_goes_on(
    client, conn, migrated
):
    await client.schedules.add(Schedule("* * * * *", "helper", name="s"))
    assert (await client.schedules.pause("s")).paused_at is not None
    await due(conn, migrated, "s", 300)
    await ticker(client, migrated).run_once()
    assert await count_jobs(conn, migrated) == 0

    resumed = await client.schedules.resume("s")
    assert resumed.paused_at is None
    assert resumed.next_run_at > datetime.now(UTC)
    await ticker(client, migrated).run_once()
    assert await count_jobs(conn, migrated) == 0


async def test_a_removed_schedule_is_gone(client):
    await client.schedules.add(Schedule("@daily", "helper", name="s"))
    await client.schedules.remove("s")

    assert await client.schedules.list() == []


@pytest.mark.parametrize("change", ["pause", "resume", "remove", "get"])
async def test_a_schedule_that_is_not_there_is_an_error(client, change):
    await client.schedules.add(Schedule("@daily", "helper", name="mine"))

    with pytest.raises(ValueError, match=r"no schedule is named 'yours'.*'mine'"):
        await getattr(client.schedules, change)("yours")


async def test_a_second_schedule_of_one_name_is_refused(client):
    await client.schedules.add(Schedule("@daily", "helper"))

    with pytest.raises(ValueError, match="is there already"):
        await client.schedules.add(Schedule("@daily", "helper"))


async def test_a_schedule_of_an_unknown_agent_is_refused(client):
    with pytest.raises(ValueError, match="is not registered"):
        await client.schedules.add(Schedule("@daily", "nobody"))
    with pytest.raises(ValueError, match=r"agent_config\.model"):
        await client.schedules.add(Schedule("@daily", {"model": "no-such"}))


async def test_code_declares_schedules_and_takes_them_back(dsn, conn, migrated, helper):
    async def start(*schedules: Schedule, name: str = "one") -> list[str]:
        options = {"prefix": migrated, "agents": {"helper": helper}, "name": name}
        async with AdkOban(dsn, schedules=schedules, **options) as jobs:
            return [stored.name for stored in await jobs.schedules.list()]

    a, b = [Schedule("@daily", "helper", name=name) for name in "ab"]
    assert await start(a, b) == ["a", "b"]
    assert await start(Schedule("@daily", "helper", name="c"), name="two") == [
        "a",
        "b",
        "c",
    ]
    assert await start(a) == ["a", "c"]
    assert await start() == ["c"]


async def test_a_pause_and_the_next_tick_survive_a_deploy(dsn, conn, migrated, helper):
    async def start(expression: str) -> AdkOban:
        schedule = Schedule(expression, "helper", name="s")
        options = {"prefix": migrated, "agents": {"helper": helper}}
        async with AdkOban(dsn, schedules=[schedule], **options) as jobs:
            await jobs.schedules.pause("s")
            return await jobs.schedules.get("s")

    first = await start("@daily")
    await due(conn, migrated, "s", 3600)
    again = await start("@daily")
    assert again.paused_at == first.paused_at
    assert again.next_run_at < first.next_run_at
    changed = await start("@hourly")
    assert changed.next_run_at > datetime.now(UTC)


async def test_two_declared_schedules_of_one_name_are_refused(dsn, migrated, helper):
    twice = [Schedule("@daily", "helper"), Schedule("@daily", "helper", message="x")]

    with pytest.raises(ValueError, match="give them name="):
        async with AdkOban(
            dsn, prefix=migrated, agents={"helper": helper}, schedules=twice
        ):
            pass


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"expression": "every day"}, ValueError, "cron expression 'every day'"),
        ({"expression": "61 * * * *"}, ValueError, "Bad minute"),
        ({"expression": "0 0 30 2 *"}, ValueError, "0 0 30 2"),
        ({"expression": None}, TypeError, "cron expression must be a string"),
        ({"timezone": "Mars/Olympus"}, ValueError, "timezone 'Mars/Olympus'"),
        ({"timezone": "../etc/passwd"}, ValueError, "timezone"),
        ({"missed": "all"}, ValueError, "missed must be"),
        ({"agent": 42}, TypeError, "a schedule's agent"),
        ({"message": ""}, ValueError, "message must not"),
        ({"priority": 10}, ValueError, "priority must be 0 to 9"),
        ({"user_id": ""}, ValueError, "user_id must not"),
        ({"runner_opts": {"x": 1}}, ValueError, "runner_opts.x"),
    ],
)
def test_a_wrong_schedule_is_refused_when_it_is_made(options, error, message):
    with pytest.raises(error, match=message):
        Schedule(**{"expression": "@daily", "agent": "helper", **options})


async def test_a_cron_schedule_fires_by_itself(serve):
    agent = LlmAgent(name="a", model=ScriptedModel(replies=lambda _: "tock"))
    schedule = Schedule("* * * * * *", "a", name="each second")
    async with serve(agents={"a": agent}, schedules=[schedule]) as jobs:
        async with asyncio.timeout(15):
            while not await jobs.list_jobs(state="completed"):
                await asyncio.sleep(0.05)
        (job, *_) = await jobs.list_jobs(state="completed")
        assert (await job.result(timeout=5)).text == "tock"
        ats = [job.meta["cron_at"] for job in await jobs.list_jobs()]
    assert len(ats) == len(set(ats))


async def test_a_row_that_cannot_tick_does_not_stop_the_others(client, conn, migrated):
    await client.schedules.add(Schedule("* * * * *", "helper", name="good"))
    await client.schedules.add(Schedule("* * * * *", "helper", name="bad"))
    await conn.execute(
        f"UPDATE {migrated}.adk_oban_schedules SET expression = 'x', options = %s "
        "WHERE name = 'bad'",
        (Jsonb({}),),
    )
    await due(conn, migrated, "good", 59)
    await due(conn, migrated, "bad", 59)
    await ticker(client, migrated).run_once()

    assert await count_jobs(conn, migrated) == 1
    assert (await client.schedules.get("bad")).paused_at is not None
