"""The stream of an attempt: written along with steps, once, and before the end."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from google.adk.agents import LlmAgent, ParallelAgent
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentWorker
from adk_oban._shown import Shown, ShownEvent
from adk_oban.testing import ScriptedModel, call, drain
from attempts import Runs, attempt, enqueue
from test_steps import owner, step, steps  # noqa: F401  (fixtures)


@pytest.fixture
def run(dsn, migrated):
    return Runs(dsn, migrated)


async def look() -> str:
    """Look."""
    return "seen"


def agent(*replies, **options) -> LlmAgent:
    model = ScriptedModel(replies=[*replies])
    return LlmAgent(name="a", model=model, tools=[look], **options)


async def rows(conn: AsyncConnection, prefix: str, *columns: str) -> list[tuple]:
    names = ", ".join(columns)
    sql = f"SELECT {names} FROM {prefix}.adk_oban_events ORDER BY id"
    return await (await conn.execute(sql)).fetchall()


def shown(by, key: str, data: str = "{}") -> ShownEvent:
    return ShownEvent(
        by.job_id, by.attempted_at, attempt=1, key=key, steps=0, data=data
    )


async def test_events_say_how_many_steps_had_been_done(run, conn, migrated):
    await run(agent(call("look"), "Done."))

    found = await rows(conn, migrated, "type", "steps")
    assert found == [("event", 1), ("event", 2), ("event", 3), ("completed", None)]


async def test_a_replay_shows_nothing_again_also_when_ids_are_made_anew(
    run, conn, migrated
):
    def fail_twice(callback_context, llm_request):
        if attempt() < 3 and len(llm_request.contents) > 2:
            raise OSError(f"down in {attempt()}")

    made = agent(call("look"), "Done.", before_model_callback=fail_twice)
    await run(made)

    found = await rows(conn, migrated, "type", "attempt")
    kept = [row for row in found if row[0] != "event"]
    assert kept == [("failed", 1), ("failed", 2), ("completed", 3)]
    keys = await rows(conn, migrated, "key", "data::json -> 'content' -> 'parts'")
    calls = [parts for _, parts in keys if parts and "function_call" in parts[0]]
    assert len(calls) == 1


async def test_a_part_that_runs_again_on_a_moved_session_is_shown_once(
    run, conn, migrated
):
    moved = []

    async def move(callback_context):
        if not moved:
            moved.append(True)
            session = callback_context.session
            service = run_client._services.sessions
            fresh = await service.get_session(
                app_name=session.app_name,
                user_id=session.user_id,
                session_id=session.id,
            )
            assert fresh is None
            await service.create_session(
                app_name=session.app_name,
                user_id=session.user_id,
                session_id=session.id,
            )

    made = agent(call("look"), "Done.", after_agent_callback=move)
    async with run.client(made) as run_client:
        await enqueue()
        await drain(run_client)

    assert moved
    found = await rows(conn, migrated, "type")
    assert [kind for (kind,) in found] == ["event", "event", "event", "completed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_agents_in_parallel_are_shown_once_each(run, conn, migrated):
    def part(name: str) -> LlmAgent:
        model = ScriptedModel(replies=["Same."])
        return LlmAgent(name=name, model=model)

    both = ParallelAgent(name="both", sub_agents=[part("x"), part("y")])
    await run(both)

    found = await rows(conn, migrated, "data::json ->> 'author'", "type")
    authors = sorted(author for author, kind in found if kind == "event")
    assert authors == ["x", "y"]


async def test_the_events_of_one_turn_go_with_its_commit(run, conn, migrated):
    async with run.client(agent("Done.")) as jobs:
        pushed = []
        steps = jobs._services.steps

        async def push() -> None:
            pushed.append(True)

        steps.shown._push = push
        await enqueue()
        await drain(jobs)

    assert [kind for (kind,) in await rows(conn, migrated, "type")] == [
        "event",
        "completed",
    ]
    assert not pushed


async def test_an_event_goes_along_with_the_next_step_of_any_job(
    steps,  # noqa: F811
    owner,  # noqa: F811
    conn,
    migrated,
):
    steps.shown.put(shown(owner, "k"))
    assert await steps.record(owner, step(owner.job_id))

    assert await rows(conn, migrated, "key") == [("k",)]
    assert not steps.shown.unwritten(owner.job_id)


async def test_an_event_is_written_soon_when_no_step_comes(
    steps,  # noqa: F811
    owner,  # noqa: F811
    conn,
    migrated,
):
    steps.shown.put(shown(owner, "k"))
    async with asyncio.timeout(10):
        while not await rows(conn, migrated, "key"):
            await asyncio.sleep(0.01)


async def test_events_of_who_has_lost_the_job_are_not_written(
    steps,  # noqa: F811
    owner,  # noqa: F811
    conn,
    migrated,
):
    await conn.execute(
        f"UPDATE {migrated}.oban_jobs SET attempted_at = timezone('UTC', now())"
    )
    steps.shown.put(shown(owner, "k"))
    await steps.shown.flush(owner.job_id)

    assert await rows(conn, migrated, "key") == []
    assert not steps.shown.unwritten(owner.job_id)


async def test_a_locked_job_holds_up_neither_steps_nor_the_order_of_its_events(
    steps,  # noqa: F811
    owner,  # noqa: F811
    conn,
    migrated,
):
    async with asyncio.timeout(10), conn.transaction():
        await conn.execute(f"SELECT FROM {migrated}.oban_jobs FOR UPDATE")
        steps.shown.put(shown(owner, "first"))
        assert await steps.record(owner, step(owner.job_id))
        assert steps.shown.unwritten(owner.job_id)
        steps.shown.put(shown(owner, "second"))
    await steps.shown.flush(owner.job_id)

    assert await rows(conn, migrated, "key") == [("first",), ("second",)]


async def test_an_event_that_cannot_be_written_costs_no_step(
    steps,  # noqa: F811
    owner,  # noqa: F811
    conn,
    migrated,
    caplog,
):
    await conn.execute(
        f"ALTER TABLE {migrated}.adk_oban_events ADD CHECK (key <> 'bad')"
    )
    steps.shown.put(shown(owner, "bad"))
    assert await steps.record(owner, step(owner.job_id))

    assert "1 events are lost" in caplog.text
    assert len(await steps.of_job(owner.job_id)) == 1


async def test_a_step_says_which_attempt_recorded_it(
    steps,  # noqa: F811
    owner,  # noqa: F811
    conn,
    migrated,
):
    assert await steps.record(owner, step(owner.job_id))
    assert await steps.record(owner, step(owner.job_id, key="j", state="started"))
    found = await conn.execute(f"SELECT attempted_at FROM {migrated}.adk_oban_steps")
    assert await found.fetchall() == [(owner.attempted_at,)] * 2


async def test_events_are_told_with_the_job_and_its_moves_with_their_type(
    dsn, migrated, conn
):
    await conn.execute(f'LISTEN "{migrated}.oban_adk_event"')
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent("Done.")}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
    heard = [said.payload async for said in conn.notifies(timeout=5, stop_after=1)]

    assert heard == [f'{{"job_id" : {job.id}, "type" : "completed"}}']


async def test_an_adk_oban_that_has_stopped_writes_no_more():
    pushed: list[str] = []

    async def push() -> None:
        pushed.append("pushed")
        raise ConnectionError("closed")

    shown = Shown(push)
    shown.put(ShownEvent(1, datetime(2030, 1, 1), 1, "k", 0, "{}"))
    shown.close()
    shown.put(ShownEvent(1, datetime(2030, 1, 1), 1, "l", 0, "{}"))
    await asyncio.sleep(0)

    assert (shown.unwritten(1), pushed) == (False, [])
