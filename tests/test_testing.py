"""The helpers for users' tests."""

from __future__ import annotations

import pytest
from google.adk.agents import LlmAgent
from google.genai import types

from adk_oban import AdkOban, AgentWorker
from adk_oban.testing import ScriptedModel, call, drain


def count(text: str) -> int:
    """Count words."""
    return len(text.split())


async def test_the_example_of_the_module(dsn, migrated):
    model = ScriptedModel(replies=[call("count", text="a b c"), "Three words."])
    helper = LlmAgent(name="helper", model=model, tools=[count])
    async with AdkOban(dsn, prefix=migrated, agents={"helper": helper}) as jobs:
        job = await AgentWorker.enqueue("helper", "user-1", "How many words?")
        assert await drain(jobs) == {"completed": 1}
        assert (await job.result(timeout=5)).text == "Three words."

    answer = model.requests[1].contents[-1].parts[0].function_response
    assert answer.response == {"result": 3}


async def test_parallel_calls_are_a_list(dsn, migrated):
    calls = [call("count", text="a"), call("count", text="a b")]
    model = ScriptedModel(replies=[calls, "done"])
    helper = LlmAgent(name="helper", model=model, tools=[count])
    async with AdkOban(dsn, prefix=migrated, agents={"helper": helper}) as jobs:
        await AgentWorker.enqueue("helper", "u", "hi")
        await drain(jobs)

    parts: list[types.Part] = model.requests[1].contents[-1].parts
    assert [p.function_response.response for p in parts] == [
        {"result": 1},
        {"result": 2},
    ]


async def test_a_model_that_is_asked_too_often_says_so(dsn, migrated):
    helper = LlmAgent(name="helper", model=ScriptedModel(replies=[]))
    async with AdkOban(dsn, prefix=migrated, agents={"helper": helper}) as jobs:
        job = await AgentWorker.enqueue("helper", "u", "hi", max_attempts=1)
        await drain(jobs)
        with pytest.raises(Exception, match="once more than it has replies"):
            await job.result(timeout=5)


async def test_drain_leaves_scheduled_jobs_when_it_is_told_to(client):
    await AgentWorker.enqueue("helper", "u", "later", schedule_in=60)
    await AgentWorker.enqueue("helper", "u", "now")

    assert await drain(client, with_scheduled=False) == {"completed": 1}
    assert await drain(client) == {"completed": 1}
    assert await drain(client) == {}
