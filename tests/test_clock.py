"""The clock of an invocation: the same times and ids on every attempt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.adk.agents import LlmAgent
from google.adk.platform import time as platform_time
from google.adk.platform import uuid as platform_uuid

from adk_oban import now
from adk_oban._clock import Clock
from adk_oban.testing import ScriptedModel, call
from attempts import Runs, attempt

BEGAN = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def run(dsn, migrated):
    return Runs(dsn, migrated)


def test_two_clocks_of_one_invocation_say_the_same():
    one, other = Clock(BEGAN, "seed"), Clock(BEGAN, "seed")
    assert [one.time(), one.time()] == [other.time(), other.time()]
    assert [one.id(), one.id()] == [other.id(), other.id()]


def test_no_time_and_no_id_comes_twice():
    clock = Clock(BEGAN, "seed")
    times = [clock.time() for _ in range(100)]
    assert times == sorted(set(times))
    assert len({clock.id() for _ in range(100)}) == 100


def test_ids_are_uuids_and_each_invocation_has_its_own():
    made = Clock(BEGAN, "one").id()
    assert str(UUID(made)) == made
    assert made != Clock(BEGAN, "other").id()


def test_time_moves_to_where_a_step_was_recorded_and_never_back():
    clock = Clock(BEGAN, "seed")
    later = BEGAN + timedelta(seconds=5)
    clock.advance(later)
    clock.advance(BEGAN)
    assert clock.time() > later.timestamp()
    assert clock.began_at == BEGAN


def test_adk_asks_the_clock_while_it_runs():
    with Clock(BEGAN, "seed").running():
        assert platform_time.get_time() == pytest.approx(BEGAN.timestamp(), abs=1)
        assert platform_uuid.new_uuid() == Clock(BEGAN, "seed").id()
        assert now() == BEGAN
    assert abs(platform_time.get_time() - datetime.now(UTC).timestamp()) < 5


def test_outside_a_job_it_is_now():
    assert abs(now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert now().tzinfo is UTC


async def test_a_prompt_with_the_time_is_the_same_on_a_retry(run):
    model = ScriptedModel(replies=[call("look"), OSError("down"), "done"])
    times = {}

    def instruction(_context) -> str:
        times.setdefault(attempt(), now())
        return f"It is {now().isoformat()}"

    seen = await run(
        LlmAgent(name="a", model=model, tools=[look], instruction=instruction)
    )
    assert times[1] == times[2]
    assert seen.steps(2)[0] == "model scripted replayed"


async def test_an_attempt_that_finds_nothing_recorded_begins_anew(run):
    times = {}

    def instruction(_context) -> str:
        times.setdefault(attempt(), now())
        return "Go."

    model = ScriptedModel(replies=[OSError("down"), "done"])
    await run(LlmAgent(name="a", model=model, instruction=instruction))
    assert times[1] < times[2]


async def test_invocation_and_events_have_the_same_ids_on_all_attempts(run):
    model = ScriptedModel(
        replies=[call("look"), OSError("down"), call("look"), OSError("down"), "done"]
    )
    ids: dict[int, list[str]] = {1: [], 2: [], 3: []}

    def before_model(callback_context, llm_request) -> None:
        session = callback_context._invocation_context.session
        ids[attempt()] = [
            callback_context.invocation_id,
            *(event.id for event in session.events),
            *(str(event.timestamp) for event in session.events),
        ]

    agent = LlmAgent(
        name="a", model=model, tools=[look], before_model_callback=before_model
    )
    seen = await run(agent)
    assert len(ids[1]) == 7
    assert ids[2][:3] == ids[1][:3]
    assert ids[3][:5] == ids[2][:5]
    assert seen.result.invocation_id == ids[1][0]
    assert [event.id for event in seen.session.events][:3] == ids[1][1:4]


async def look() -> str:
    """Look."""
    return "seen"
