"""What follows on a job's end: noted with it, whoever ends it, and done once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from oban import Job
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentJob, AgentWorker, Schedule, ScheduledJob
from adk_oban._fan_ins import FanIns
from adk_oban.cli import main
from adk_oban.errors import UnknownAgentError
from adk_oban.on_complete import FanIn, FollowUp, Then, Webhook
from adk_oban.testing import ScriptedModel, drain
from hooks import agents_jobs, follow_ups

FOLLOW_UP = "adk_oban.on_complete.FollowUp"
THEN = Then("second", message="Now you:")


def said(request: LlmRequest) -> list[str]:
    return [part.text for part in request.contents[-1].parts]


def answers(how: Callable[[list[str]], Any]) -> ScriptedModel:
    return ScriptedModel(replies=lambda request: how(said(request)))


def fail(_texts: list[str]) -> Exception:
    return RuntimeError("no luck")


@pytest.fixture
async def jobs(dsn: str, migrated: str) -> AsyncIterator[AdkOban]:
    agents = {
        "first": LlmAgent(name="first", model=answers(lambda texts: f"1:{texts[0]}")),
        "second": LlmAgent(name="second", model=answers("|".join)),
        "long": LlmAgent(name="long", model=answers(lambda _: "x" * 5_000_000)),
        "failing": LlmAgent(name="failing", model=answers(fail)),
    }
    async with AdkOban(dsn, prefix=migrated, agents=agents) as jobs:
        yield jobs


async def enqueue(agent: str = "first", **options: Any) -> AgentJob:
    return await AgentWorker.enqueue(agent, "u", "hi", **options)


type Listing = Callable[[], Awaitable[list[AgentJob]]]
type After = Callable[[AgentJob], Awaitable[list[AgentJob]]]


@pytest.fixture
def every(jobs: AdkOban, conn: AsyncConnection, migrated: str) -> Listing:
    """Lists the jobs of agents, newest first."""
    return lambda: agents_jobs(jobs, conn, migrated)


@pytest.fixture
def after(every: Listing) -> After:
    """Lists the jobs that follow on one."""

    async def after(job: AgentJob) -> list[AgentJob]:
        return [each for each in await every() if each.meta.get("after_job") == job.id]

    return after


async def ended(conn: AsyncConnection, prefix: str) -> list[tuple[int, str, int]]:
    rows = await follow_ups(conn, prefix)
    told = [row["args"] for row in rows]
    return [(args["job_id"], args["state"], args["attempt"]) for args in told]


async def execute(conn: AsyncConnection, sql: str, job_id: int) -> None:
    await conn.execute(sql, (job_id,))


# What users write


@pytest.mark.parametrize(
    "step",
    [
        {"webhook": {"url": "https://x/y", "events": ["completed"]}},
        {"agent": "second"},
        {
            "agent": {"name": "a", "model": "gemini-2.5-flash", "instruction": "i"},
            "message": "hi",
        },
        {"agent": "second", "queue": "q", "on_complete": [{"agent": "second"}]},
        {"fan_in": {"key": "k", "size": 3, "then": {"agent": "second"}}},
    ],
)
async def test_its_json_is_stable(jobs, step):
    job = await enqueue(on_complete=step)
    assert job.args["on_complete"] == [step]

    (same,) = (await jobs.get_job(job.id)).args["on_complete"]
    assert same == step


async def test_without_it_args_say_nothing_of_it(jobs):
    assert "on_complete" not in (await enqueue()).args
    assert "on_complete" not in (await enqueue(on_complete=[])).args


@pytest.mark.parametrize(
    ("make", "error", "complaint"),
    [
        (lambda: Webhook("ftp://x"), ValueError, "http://.*'ftp://x'"),
        (lambda: Webhook("https://"), ValueError, "'https://'"),
        (lambda: Webhook("https://x/ y"), ValueError, "'https://x/ y'"),
        (lambda: Webhook("http://x:port/"), ValueError, "'http://x:port/'"),
        (lambda: Webhook("http://x/" + "y" * 2048), ValueError, "2048 characters"),
        (lambda: Webhook(7), TypeError, "got 7"),
        (lambda: Webhook("http://x", events=["done"]), ValueError, "'done'"),
        (lambda: Webhook("http://x", events=[]), ValueError, "events"),
        (lambda: Webhook("http://x", events="completed"), TypeError, "events"),
        (lambda: Then(7), TypeError, "got 7"),
        (lambda: Then(""), ValueError, "agent_module"),
        (lambda: Then("a", message=7), TypeError, "message must be a string, got 7"),
        (lambda: Then("a", message="\0"), ValueError, "NUL"),
        (lambda: Then("a", message="x" * 1_048_577), ValueError, "1048576 bytes"),
        (lambda: Then("a", user_id=""), ValueError, "user_id"),
        (lambda: Then("a", session_id="s" * 129), ValueError, "session_id"),
        (lambda: Then("a", queue=""), ValueError, "queue"),
        (lambda: Then("a", max_attempts=0), ValueError, "max_attempts"),
        (lambda: Then("a", on_complete=7), TypeError, "got 7"),
        (lambda: FanIn("k", 0, Then("a")), ValueError, "1 to 10000, got 0"),
        (lambda: FanIn("k", 10_001, Then("a")), ValueError, "got 10001"),
        (lambda: FanIn("k", True, Then("a")), TypeError, "got True"),
        (lambda: FanIn("k" * 129, 1, Then("a")), ValueError, "key"),
        (lambda: FanIn(" ", 1, Then("a")), ValueError, "key"),
        (lambda: FanIn("k", 1, Webhook("http://x")), TypeError, "then"),
    ],
)
def test_what_is_wrong_is_refused_when_it_is_made(make, error, complaint):
    with pytest.raises(error, match=complaint):
        make()


@pytest.mark.parametrize(
    ("step", "error", "complaint"),
    [
        ({"hook": 1}, ValueError, "'hook'"),
        ({"webhook": {}}, ValueError, "webhook needs .*url"),
        ({"webhook": {"url": "https://x", "secret": "s"}}, ValueError, "'secret'"),
        ({"agent": "second", "after": 1}, ValueError, "'after'"),
        ({"fan_in": {"key": "k", "size": 3}}, ValueError, "needs .*then"),
        ({"fan_in": 3}, TypeError, "fan_in must be an object"),
        ("https://x", TypeError, "'https://x'"),
        ({"agent": "nobody"}, UnknownAgentError, "'nobody'"),
        (Then("second", on_complete=Then("nobody")), UnknownAgentError, "'nobody'"),
        (FanIn("k", 2, Then("nobody")), UnknownAgentError, "'nobody'"),
        (Then({"name": "a", "modal": "m"}), ValueError, "modal"),
    ],
)
async def test_what_is_wrong_is_refused_when_it_is_enqueued(
    jobs, step, error, complaint, every
):
    with pytest.raises(error, match=complaint):
        await enqueue(on_complete=step)
    assert await every() == []


async def test_it_is_not_nested_too_deep(jobs):
    step: dict[str, Any] = {"agent": "second"}
    for _ in range(60):
        step = {"agent": "second", "on_complete": [step]}
    with pytest.raises(ValueError, match="deep"):
        await enqueue(on_complete=step)


async def test_scheduled_jobs_and_schedules_take_it_too(jobs, after):
    job = await ScheduledJob.schedule("first", on_complete=THEN)
    assert job.args["on_complete"] == [THEN.to_json()]
    assert Schedule("@daily", "first", on_complete=THEN).args()["on_complete"]

    await drain(jobs)
    (next_job,) = await after(job)
    assert next_job.queue == "agents"


# The trigger: every way in which a job ends


async def test_a_job_that_lands_is_followed_with_its_queue_and_priority(
    jobs, conn, migrated
):
    job = await enqueue(on_complete=[THEN, THEN], priority=7)
    await drain(jobs)

    rows = await follow_ups(conn, migrated)
    assert await ended(conn, migrated) == [(job.id, "completed", 1)] * 2
    assert {(r["queue"], r["priority"], r["max_attempts"]) for r in rows} == {
        ("agents", 7, 20)
    }


async def test_a_job_that_is_acknowledged_is_followed(jobs, conn, migrated):
    job = await enqueue("failing", max_attempts=2, on_complete=THEN)
    await drain(jobs)

    assert await ended(conn, migrated) == [(job.id, "discarded", 2)]


async def test_a_job_that_is_cancelled_before_it_runs_is_followed(jobs, conn, migrated):
    job = await enqueue(schedule_in=60, on_complete=THEN)
    await jobs.oban.cancel_job(job.id)

    assert await ended(conn, migrated) == [(job.id, "cancelled", 0)]


async def test_a_job_that_is_refused_is_followed(jobs, conn, migrated):
    args = {"agent_module": "nobody", "user_id": "u", "message": "hi"}
    row = Job(
        "adk_oban.worker.AgentWorker",
        args={**args, "on_complete": [THEN.to_json()]},
        queue="agents",
    )
    job = await jobs.enqueue(row)
    await drain(jobs)

    assert await ended(conn, migrated) == [(job.id, "cancelled", 1)]


async def test_a_job_that_is_ended_by_hand_is_followed(jobs, conn, migrated):
    job = await enqueue(on_complete=THEN)
    sql = f"UPDATE {migrated}.oban_jobs SET state = 'discarded' WHERE id = %s"
    await execute(conn, sql, job.id)

    assert await ended(conn, migrated) == [(job.id, "discarded", 0)]


@pytest.mark.parametrize("by", ["uuid", "time"])
async def test_a_job_that_is_rescued_for_the_last_time_is_followed(
    jobs, conn, migrated, by
):
    job = await enqueue(on_complete=THEN, max_attempts=1)
    sql = (
        f"UPDATE {migrated}.oban_jobs SET state = 'executing', attempt = 1, "
        "attempted_by = '{dead,d1}', attempted_at = timezone('UTC', now()) "
        "- interval '1 hour' WHERE id = %s"
    )
    await execute(conn, sql, job.id)
    if by == "time":
        await jobs.oban._query.rescue_jobs(60)
    else:
        await rescue(conn, migrated)

    assert await ended(conn, migrated) == [(job.id, "discarded", 1)]


async def rescue(conn: AsyncConnection, prefix: str) -> None:
    from adk_oban._query import statement

    said = {"uuids": ["d1"], "channel": f"{prefix}.oban_insert"}
    await conn.execute(statement("rescue_jobs", prefix), said)


async def test_a_job_that_ends_again_is_followed_again(jobs, conn, migrated, after):
    job = await enqueue(schedule_in=60, on_complete=THEN)
    await jobs.oban.cancel_job(job.id)
    await jobs.oban.retry_job(job.id)
    await drain(jobs)

    states = [state for _, state, _ in await ended(conn, migrated)]
    assert states == ["cancelled", "completed"]
    assert len(await after(job)) == 1


async def test_moves_that_are_no_end_are_not_followed(jobs, conn, migrated):
    job = await enqueue("failing", on_complete=THEN)
    await drain(jobs, with_scheduled=False)

    assert (await job.reload()).state == "retryable"
    assert await ended(conn, migrated) == []


async def test_an_end_that_is_rolled_back_is_not_followed(jobs, conn, migrated):
    job = await enqueue(on_complete=THEN)
    sql = f"UPDATE {migrated}.oban_jobs SET state = 'completed' WHERE id = %s"
    async with conn.transaction(force_rollback=True):
        await execute(conn, sql, job.id)

    assert await ended(conn, migrated) == []


# Then


async def test_the_next_agent_gets_the_result(jobs, after):
    job = await enqueue(on_complete=THEN)
    assert await drain(jobs) == {"completed": 3}

    (next_job,) = await after(job)
    assert (await next_job.result()).text == "Now you:|1:hi"
    assert (next_job.user_id, next_job.queue) == ("u", "agents")
    assert next_job.session_id != job.session_id
    assert next_job.meta == {"after_job": job.id}


async def test_the_next_agent_may_have_a_session_of_its_own(jobs, after):
    step = Then(
        "second",
        user_id="v",
        session_id="s",
        app_name="app",
        max_attempts=9,
        priority=1,
    )
    job = await enqueue(on_complete=step)
    await drain(jobs)

    (next_job,) = await after(job)
    assert next_job.args["app_name"] == "app"
    assert (next_job.user_id, next_job.session_id) == ("v", "s")
    assert (next_job.max_attempts, next_job.priority) == (9, 1)
    assert (await next_job.result()).text == "1:hi"


async def test_chains_end(jobs, every):
    chain = Then("second", "b", on_complete=Then("second", "c", on_complete=THEN))
    await enqueue(on_complete=chain)
    assert await drain(jobs) == {"completed": 7}

    last = (await every())[0]
    assert (await last.result()).text == "Now you:|c|b|1:hi"


async def test_nothing_comes_after_a_failure(jobs, after):
    job = await enqueue("failing", max_attempts=1, on_complete=THEN)
    assert await drain(jobs) == {"discarded": 1, "completed": 1}

    assert await after(job) == []


async def test_an_agent_that_only_others_know_is_left_to_them(
    jobs, dsn, migrated, after
):
    job = await enqueue(on_complete=Then("second", queue="elsewhere"))
    known = {"first": LlmAgent(name="first", model=answers("".join))}
    async with AdkOban(dsn, prefix=migrated, agents=known, name="other") as other:
        assert await drain(other) == {"completed": 2}

    assert await drain(jobs, queues=["elsewhere"]) == {"completed": 1}
    assert len(await after(job)) == 1


async def test_a_result_that_is_too_long_for_a_message_is_cut(jobs, after):
    job = await enqueue("long", on_complete=Then("second", "x" * 1_000_000))
    await drain(jobs)
    (whole,) = await after(job)
    assert len((await whole.result()).text) == 6_000_001

    both = FanIn("k", 2, THEN)
    one, two = [await enqueue("long", on_complete=both) for _ in range(2)]
    await drain(jobs)
    (cut,) = [*await after(one), *await after(two)]
    ends = json.loads(cut.args["message"]["parts"][1]["text"])
    assert {len(end["text"]) // 100_000 for end in ends} == {37}
    assert ends[0]["text"].endswith(f"of 5000000 characters of job {one.id})")


async def test_a_result_that_is_gone_is_told_of(jobs, conn, migrated):
    job = await enqueue(on_complete=THEN)
    sql = f"UPDATE {migrated}.oban_jobs SET state = 'completed' WHERE id = %s"
    await execute(conn, sql, job.id)
    assert await drain(jobs) == {"cancelled": 1}

    (row,) = await follow_ups(conn, migrated)
    reason = f"the result of job {job.id} is no longer kept (result_ttl)"
    assert reason in row["errors"][0]["error"]


async def test_what_follows_is_enqueued_once_however_often_it_is_tried(
    jobs, conn, migrated, after
):
    job = await enqueue(on_complete=THEN)
    await drain(jobs)
    (row,) = await follow_ups(conn, migrated)
    assert row["meta"]["then_job_id"] == (await after(job))[0].id

    await jobs.oban.retry_job(row["id"])
    await drain(jobs)
    assert len(await after(job)) == 1


async def test_what_runs_elsewhere_by_now_is_left(jobs, conn, migrated, after):
    job = await enqueue(on_complete=THEN)
    await drain(jobs, queues=["agents"])
    (row,) = await follow_ups(conn, migrated)
    stale = Job(**{**row, "meta": {}, "state": "executing"})
    stale.extra["adk_oban"] = jobs._services

    assert await FollowUp().process(stale) is None
    assert len(await after(job)) == 1


async def test_a_row_that_makes_no_sense_is_refused(jobs, conn, migrated):
    for args in ({}, {"job_id": 1, "state": "completed", "attempt": 1, "then": 7}):
        await jobs.oban.enqueue(Job(FOLLOW_UP, args=args, queue="agents"))
    assert await drain(jobs) == {"cancelled": 2}

    first, second = await follow_ups(conn, migrated)
    assert "KeyError: 'job_id'" in first["errors"][0]["error"]
    assert "got 7" in second["errors"][0]["error"]


async def test_without_an_adk_oban_it_is_left_for_one():
    snooze = await FollowUp().process(Job(FOLLOW_UP, args={}))
    assert snooze is not None


def test_it_is_retried_for_about_three_days():
    job = Job(FOLLOW_UP, max_attempts=20)
    pauses = []
    for attempt in range(1, 20):
        job.attempt = attempt
        pauses.append(FollowUp().backoff(job))

    assert timedelta(days=2) < timedelta(seconds=sum(pauses)) < timedelta(days=4)


# Fan-in


async def test_the_end_of_a_batch_starts_one_job_with_all_results(jobs, every):
    step = FanIn("k", 3, THEN)
    batch = [
        await enqueue("first", on_complete=step),
        await enqueue("failing", on_complete=step, max_attempts=1),
        await enqueue("first", on_complete=step, schedule_in=3600),
    ]
    await jobs.oban.cancel_job(batch[2].id)
    await drain(jobs)

    (next_job,) = [job for job in await every() if "fan_in" in job.meta]
    text, ends = (part["text"] for part in next_job.args["message"]["parts"])
    assert text == "Now you:"
    assert json.loads(ends) == [
        end(batch[0], "first", "completed", text="1:hi"),
        end(batch[1], "failing", "discarded", error="RuntimeError: no luck"),
        end(batch[2], "first", "cancelled", error="cancelled while it waited"),
    ]
    assert next_job.meta["fan_in"] == "k"
    assert next_job.state == "completed"


def end(job: AgentJob, agent: str, state: str, **said: Any) -> dict[str, Any]:
    empty = {"text": "", "output": None, "error": None}
    return {"job_id": job.id, "agent": agent, "state": state, **empty, **said}


async def test_a_job_of_a_batch_counts_once(jobs, conn, migrated):
    step = FanIn("k", 2, THEN)
    job = await enqueue(on_complete=step, schedule_in=3600)
    for _ in range(2):
        await jobs.oban.cancel_job(job.id)
        await jobs.oban.retry_job(job.id)
    await drain(jobs)
    assert await started(conn, migrated) == [("k", 2, 1, None)]

    other = await enqueue(on_complete=step)
    await drain(jobs)
    ((_, _, _, then_job_id),) = await started(conn, migrated)
    next_job = await jobs.get_job(then_job_id)
    assert next_job.meta == {"after_job": other.id, "fan_in": "k"}


async def started(conn: AsyncConnection, prefix: str) -> list[Any]:
    rows = await conn.execute(
        f"SELECT key, size, ended, then_job_id FROM {prefix}.adk_oban_fan_ins"
    )
    return await rows.fetchall()


async def test_a_size_that_differs_is_an_error(jobs, conn, migrated):
    await enqueue(on_complete=FanIn("k", 2, THEN))
    await enqueue(on_complete=FanIn("k", 3, THEN))
    assert await drain(jobs) == {"completed": 3, "cancelled": 1}

    rows = await follow_ups(conn, migrated)
    assert "the batch 'k' has 2 jobs" in rows[1]["errors"][0]["error"]


async def test_a_job_too_many_is_an_error_until_the_batch_is_forgotten(
    jobs, conn, migrated, every
):
    step = FanIn("k", 1, THEN)
    await enqueue(on_complete=step)
    await drain(jobs)
    await enqueue(on_complete=step)
    await drain(jobs)
    rows = await follow_ups(conn, migrated)
    assert "is one too many" in rows[1]["errors"][0]["error"]

    fan_ins = FanIns(jobs._services.pool, migrated)
    assert await fan_ins.prune(timedelta(hours=1)) == 0
    assert await fan_ins.prune(timedelta(0)) == 1
    await enqueue(on_complete=step)
    await drain(jobs)
    assert [job.meta.get("fan_in") for job in await every()].count("k") == 2


async def test_a_batch_that_waits_is_not_forgotten(jobs, migrated):
    await enqueue(on_complete=FanIn("k", 2, THEN))
    await drain(jobs)

    assert await FanIns(jobs._services.pool, migrated).prune(timedelta(0)) == 0


async def test_jobs_of_a_batch_that_end_at_once_start_one_job(
    jobs, conn, migrated, every
):
    step = FanIn("k", 10, THEN)
    batch = [await enqueue(on_complete=step) for _ in range(10)]
    sql = f"UPDATE {migrated}.oban_jobs SET state = 'cancelled' WHERE id = %s"
    for job in batch:
        await execute(conn, sql, job.id)
    await asyncio.gather(*[drain(jobs) for _ in range(10)])

    assert len(await every()) == 11


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("https://x/y", Webhook("https://x/y")),
        ('{"agent": "second"}', Then("second")),
    ],
)
def test_the_command_line_takes_urls_and_json(dsn, migrated, text, step):
    env = {"ADK_OBAN_DSN": dsn, "ADK_OBAN_PREFIX": migrated}
    command = ["enqueue", "first", "hi", "--json", "--on-complete", text]
    done = CliRunner(env=env).invoke(main, command)

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["args"]["on_complete"] == [step.to_json()]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("ftp://x", "'ftp://x'"), ("{", "is not valid JSON"), ('{"a": 1}', "{'a': 1}")],
)
def test_the_command_line_refuses_what_is_neither(dsn, migrated, text, complaint):
    env = {"ADK_OBAN_DSN": dsn, "ADK_OBAN_PREFIX": migrated}
    command = ["enqueue", "first", "hi", "--on-complete", text]
    done = CliRunner(env=env).invoke(main, command)

    assert done.exit_code == 1
    assert complaint in done.stderr
