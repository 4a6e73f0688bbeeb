"""A job's events: all of them, in order, from a cursor on, until the job has ended."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from google.adk.agents import LlmAgent
from google.genai import types

from adk_oban import AdkOban, AgentWorker
from adk_oban.errors import JobNotFoundError
from adk_oban.events import JobEvent
from adk_oban.jobs import AgentJob
from adk_oban.testing import ScriptedModel, call, drain


async def look(where: str) -> dict[str, str]:
    """Look somewhere."""
    return {"seen": f"nothing in the {where}"}


def looker(*replies) -> LlmAgent:
    said = replies or (call("look", where="north"), "I saw nothing.")
    model = ScriptedModel(replies=[*said])
    return LlmAgent(name="looker", model=model, tools=[look])


async def all_of(job: AgentJob, **options) -> list[JobEvent]:
    async with asyncio.timeout(15):
        return [event async for event in job.events(**options)]


def told(events: list[JobEvent]) -> list[tuple[str, str]]:
    return [(event.type, event.text) for event in events]


async def test_a_job_that_ended_tells_all_of_it(dsn, migrated):
    async with AdkOban(dsn, prefix=migrated, agents={"a": looker()}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        call_, result, answer, end = await all_of(job)

    assert call_.agent == "looker"
    assert call_.tool_calls[0]["name"] == "look"
    assert call_.tool_calls[0]["args"] == {"where": "north"}
    assert result.tool_results[0]["result"] == {"seen": "nothing in the north"}
    assert result.tool_results[0]["id"] == call_.tool_calls[0]["id"]
    assert told([answer, end]) == [
        ("event", "I saw nothing."),
        ("completed", "I saw nothing."),
    ]
    assert (end.agent, end.is_outcome, answer.is_outcome) == (None, True, False)


async def test_an_event_is_plain_data(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await drain(client)
    first, _ = await all_of(job)

    data = first.to_json()
    assert data["cursor"] == first.cursor
    assert data["at"] == first.at.isoformat()
    assert data["text"] == "You said: hi"
    assert data["data"]["author"] == "helper"


async def test_what_happens_while_somebody_follows_arrives_as_it_happens(
    serve, dsn, migrated
):
    gate = asyncio.Event()

    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "done"

    model = ScriptedModel(replies=[call("wait"), "There."])
    agent = LlmAgent(name="a", model=model, tools=[wait])
    async with serve(agents={"a": agent}):
        job = await AgentWorker.enqueue("a", "u", "hi")
        async with asyncio.timeout(15), aclosing(job.events()) as events:
            assert (await anext(events)).tool_calls
            gate.set()
            rest = [event async for event in events]

    assert told(rest) == [("event", ""), ("event", "There."), ("completed", "There.")]


async def test_a_cursor_goes_on_after_its_event_in_another_process(
    client, dsn, migrated
):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await drain(client)
    first, end = await all_of(job)

    async with AdkOban(dsn, prefix=migrated, name="other") as other:
        same = await other.get_job(job.id)
        assert await all_of(same, after=first.cursor) == [end]
        assert await all_of(same, after=end.cursor) == []


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "1-", "-1", "1-2-3", "1-99999999999999999999"]
)
async def test_what_is_no_cursor_is_refused_at_once(client, cursor):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    with pytest.raises(ValueError, match="after must be the cursor of an event"):
        job.events(after=cursor)


async def test_cursors_of_others_and_of_the_future_are_refused(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    with pytest.raises(TypeError, match="got 7"):
        job.events(after=7)
    with pytest.raises(ValueError, match="which is job 77777's"):
        job.events(after="77777-1")
    with pytest.raises(ValueError, match=f"job {job.id} has not reached"):
        await all_of(job, after=f"{job.id}-4000000")


async def test_retries_are_told_and_replayed_steps_are_not_shown_again(dsn, migrated):
    agent = looker(call("look", where="north"), OSError("down"), "Nothing.")
    backoff = {"backoff": lambda _job: 0}
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}, **backoff) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        events = await all_of(job)

    assert [(event.type, event.attempt) for event in events] == [
        ("event", 1),
        ("event", 1),
        ("event", 1),
        ("failed", 1),
        ("event", 2),
        ("completed", 2),
    ]
    # ADK makes an event of an error before it raises it.
    assert events[2].data["error_message"] == "down"
    assert "down" in events[3].text
    assert "again_at" in events[3].data


async def test_events_that_are_alike_are_shown_as_often_as_they_happened(dsn, migrated):
    same = call("look", where="north")
    agent = looker(same, same, OSError("down"), same, "Nothing.")
    backoff = {"backoff": lambda _job: 0}
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}, **backoff) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        events = await all_of(job)

    assert len([event for event in events if event.tool_calls]) == 3
    assert len([event for event in events if event.tool_results]) == 3


async def test_a_job_that_is_discarded_ends_with_that(dsn, migrated):
    agent = looker(call("look", where="north"), OSError("down"))
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi", max_attempts=1)
        await drain(jobs)
        events = await all_of(job)

    assert [event.type for event in events] == [*["event"] * 3, "discarded"]
    assert "OSError: down" in events[-1].text


async def test_a_cancelled_job_ends_for_those_who_follow(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    following = asyncio.create_task(all_of(job))
    await until_watched(client, job)
    await job.cancel(reason="enough")

    assert told(await following) == [("cancelled", "enough")]


async def test_a_retried_job_goes_on_for_those_who_ask_again(dsn, migrated):
    agent = looker(OSError("down"), "Up.")
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi", max_attempts=1)
        await drain(jobs)
        *_, end = await all_of(job)
        await jobs.oban.retry_job(job.id)
        await drain(jobs)

        assert told(await all_of(job, after=end.cursor)) == [
            ("retried", ""),
            ("event", "Up."),
            ("completed", "Up."),
        ]


async def test_an_end_that_nobody_noted_is_made_of_the_result(client, conn, migrated):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await drain(client)
    await conn.execute(f"DELETE FROM {migrated}.adk_oban_events")
    (end,) = await all_of(job)
    assert (end.type, end.text) == ("completed", "You said: hi")
    assert await all_of(job, after=end.cursor) == [end]

    await client.oban.delete_job(job.id)
    assert told(await all_of(job)) == [("completed", "You said: hi")]


async def test_a_job_that_is_gone_is_not_found(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    following = asyncio.create_task(all_of(job))
    await until_watched(client, job)
    await client.oban.delete_job(job.id)

    with pytest.raises(JobNotFoundError):
        await following


async def test_ids_that_start_again_do_not_bring_old_events(client, conn, migrated):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await drain(client)
    await conn.execute(f"TRUNCATE {migrated}.oban_jobs RESTART IDENTITY")
    again = await AgentWorker.enqueue("helper", "u", "another")
    await drain(client)

    assert again.id == job.id
    assert told(await all_of(again)) == [
        ("event", "You said: another"),
        ("completed", "You said: another"),
    ]


async def test_more_than_one_read_brings_stays_in_order(dsn, migrated):
    replies = [call("look", where=f"{n}") for n in range(120)]
    agent = looker(*replies, "Done.")
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        events = await all_of(job)

    calls = [
        event.tool_calls[0]["args"]["where"] for event in events if event.tool_calls
    ]
    assert calls == [f"{n}" for n in range(120)]
    assert len(events) == 242


async def test_thoughts_are_not_text(dsn, migrated):
    parts = [types.Part(text="hmm", thought=True), types.Part(text="Yes.")]
    async with AdkOban(dsn, prefix=migrated, agents={"a": looker(parts)}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        assert (await all_of(job))[0].text == "Yes."


async def test_many_who_follow_see_the_same(serve, helper, conn, migrated):
    async with serve(agents={"helper": helper}) as jobs:
        job = await AgentWorker.enqueue("helper", "u", "hi", schedule_in=3600)
        following = [asyncio.create_task(all_of(job)) for _ in range(300)]
        await until_watched(jobs, job, 300)
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET scheduled_at = timezone('UTC', now())"
        )
        seen = await asyncio.gather(*following)

    assert len(seen[0]) == 2
    assert all(events == seen[0] for events in seen)


async def until_watched(jobs: AdkOban, job: AgentJob, count: int = 1) -> None:
    def ready() -> bool:
        watchers = jobs._services.watch._watchers.get(job.id, ())
        looking = any(each.changed for each in watchers if each._every)
        listens = not jobs.oban._notifier._pending_listen
        return len(watchers) >= count and listens and not looking

    async with asyncio.timeout(15):
        while not ready():
            await asyncio.sleep(0.01)
