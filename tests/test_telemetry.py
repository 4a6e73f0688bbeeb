"""What is told of a job, under the origin's names, and the line that is logged."""

from __future__ import annotations

import json
import logging

import pytest
from google.adk.agents import LlmAgent
from oban import telemetry as oban_telemetry

from adk_oban import AdkOban, AgentWorker, ScheduledJob, telemetry
from adk_oban.testing import ScriptedModel, drain


@pytest.fixture
def told():
    """What handlers hear: names and fields."""
    heard: list[tuple[str, dict]] = []
    oban_telemetry.attach(
        "test",
        [name for name in telemetry.EVENTS if name != telemetry.STEP],
        lambda name, fields: heard.append((name, fields)),
    )
    yield heard
    oban_telemetry.detach("test")


@pytest.fixture
async def failing(dsn, migrated):
    """A client whose agent `a` always fails."""
    down = LlmAgent(name="a", model=ScriptedModel(replies=lambda _: OSError("down")))
    async with AdkOban(dsn, prefix=migrated, agents={"a": down}) as jobs:
        yield jobs


async def test_a_job_that_completes_is_told_of_with_the_origins_fields(client, told):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await drain(client)

    (start, started), (complete, completed) = told
    assert (start, complete) == ("adk.oban.job.start", "adk.oban.job.complete")
    assert started["job_id"] == completed["job_id"] == job.id
    assert completed["args"] == job.args
    assert completed["duration"] > 0
    assert completed["event_count"] == len(completed["events"]) == 1
    assert (completed["agent"], completed["queue"]) == ("helper", "agents")
    assert (completed["attempt"], completed["model_calls"]) == (1, 1)


async def test_an_attempt_that_fails_is_told_of_each_time(failing, told):
    await AgentWorker.enqueue("a", "u", "hi", max_attempts=2)
    await drain(failing)

    ends = [fields for name, fields in told if name == "adk.oban.job.exception"]
    assert [end["attempt"] for end in ends] == [1, 2]
    assert (ends[0]["error_type"], ends[0]["error_message"]) == ("OSError", "down")
    assert ends[0]["model_calls"] == 1


async def test_a_scheduled_job_has_events_of_its_own(client, told):
    job = await ScheduledJob.schedule("helper", message="hi")
    await drain(client)

    (start, started), (stop, stopped) = told
    assert (start, stop) == ("adk.scheduled_job.start", "adk.scheduled_job.stop")
    assert started["system_time"] > 1_700_000_000
    assert (started["job_id"], started["args"]) == (job.id, job.args)
    assert stopped["result"] == "You said: hi"
    assert stopped["duration"] > 0


async def test_a_scheduled_job_stops_also_when_it_fails(failing, told):
    await ScheduledJob.schedule("a", max_attempts=1)
    await drain(failing)

    ended = [telemetry.SCHEDULED_JOB_START, telemetry.SCHEDULED_JOB_STOP]
    assert [name for name, _ in told] == ended
    assert told[1][1]["result"] == "down"


async def test_a_handler_that_fails_harms_no_job(client, caplog):
    def broken(name, fields):
        raise ZeroDivisionError

    oban_telemetry.attach("broken", [telemetry.JOB_COMPLETE], broken)
    try:
        await AgentWorker.enqueue("helper", "u", "hi")
        assert await drain(client) == {"completed": 1}
    finally:
        oban_telemetry.detach("broken")


async def test_the_logger_prints_one_line_of_json_a_job(client, caplog):
    telemetry.attach_logger()
    telemetry.attach_logger()  # not twice
    try:
        with caplog.at_level(logging.INFO, logger="adk_oban.jobs"):
            job = await AgentWorker.enqueue("helper", "u", "hi")
            await drain(client)
    finally:
        telemetry.detach_logger()

    (line,) = [r.message for r in caplog.records if r.name == "adk_oban.jobs"]
    logged = json.loads(line)
    assert logged["event"] == "adk.oban.job.complete"
    assert (logged["job_id"], logged["agent"]) == (job.id, "helper")
    assert logged["duration"] > 0


async def test_the_logger_warns_of_a_failure(failing, caplog):
    telemetry.attach_logger()
    try:
        await AgentWorker.enqueue("a", "u", "hi", max_attempts=1)
        await drain(failing)
    finally:
        telemetry.detach_logger()

    (record,) = [r for r in caplog.records if r.name == "adk_oban.jobs"]
    assert record.levelno == logging.WARNING
    assert json.loads(record.message)["error_message"] == "down"
