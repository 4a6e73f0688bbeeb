"""AgentJob: waiting for a result, from anywhere, and for as long as it is kept."""

from __future__ import annotations

import asyncio

import pytest
from google.adk.agents import LlmAgent
from google.adk.workflow import START, Workflow
from google.genai import types
from pydantic import BaseModel

from adk_oban import AdkOban, AgentWorker
from adk_oban.errors import JobFailedError, JobNotFoundError, ResultTimeoutError
from adk_oban.testing import ScriptedModel, call, drain


async def test_result_waits_for_a_job_that_runs(serve, helper):
    async with serve(agents={"helper": helper}):
        job = await AgentWorker.enqueue("helper", "u", "hi")

        assert (await job.result(timeout=10)).text == "You said: hi"
        assert (await job.reload()).state == "completed"


async def test_many_may_wait_for_one_job(serve, helper):
    async with serve(agents={"helper": helper}):
        job = await AgentWorker.enqueue("helper", "u", "hi", schedule_in=0.2)
        results = await asyncio.gather(*(job.result(timeout=10) for _ in range(50)))

    assert {result.text for result in results} == {"You said: hi"}


async def test_a_result_is_heard_of_in_another_process_without_polling(
    serve, helper, dsn, migrated
):
    async with (
        AdkOban(dsn, prefix=migrated, name="client"),
        serve(agents={"helper": helper}),
    ):
        job = await AgentWorker.enqueue(
            "helper", "u", "hi", oban="client", schedule_in=0.3
        )
        assert (await job.result(timeout=10)).text == "You said: hi"


async def test_a_timeout_leaves_the_job_alone(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")

    with pytest.raises(ResultTimeoutError, match="still 'available'") as caught:
        await job.result(timeout=0)
    assert isinstance(caught.value, TimeoutError)
    await drain(client)
    assert (await job.result(timeout=0)).text == "You said: hi"


async def test_a_result_outlives_the_pruned_job(client, conn, migrated):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await drain(client)
    await client.oban.delete_job(job.id)

    assert await client.get_job(job.id) is None
    assert (await job.result(timeout=5)).text == "You said: hi"
    assert (await client.get_result(job.id)).text == "You said: hi"
    with pytest.raises(JobNotFoundError):
        await job.reload()


async def test_what_is_neither_job_nor_result_is_not_found(client, conn, migrated):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await client.oban.delete_job(job.id)

    with pytest.raises(JobNotFoundError, match=f"no job {job.id}"):
        await job.result(timeout=5)
    assert await client.get_result(job.id) is None


async def test_a_cancelled_job_has_no_result(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await client.oban.cancel_job(job.id)

    with pytest.raises(JobFailedError, match="was cancelled") as caught:
        await job.result(timeout=5)
    assert caught.value.state == "cancelled"


async def test_a_retried_job_has_its_new_result_and_not_the_old(dsn, migrated):
    replies = [OSError("down"), "up again"]
    agent = LlmAgent(name="a", model=ScriptedModel(replies=replies))
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi", max_attempts=1)
        await drain(jobs)
        await jobs.oban.retry_job(job.id)
        with pytest.raises(ResultTimeoutError):
            await job.result(timeout=0)

        await drain(jobs)
        assert (await job.result(timeout=5)).text == "up again"


async def test_ids_that_start_again_do_not_bring_old_results(client, conn, migrated):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await drain(client)
    await conn.execute(f"TRUNCATE {migrated}.oban_jobs RESTART IDENTITY")
    again = await AgentWorker.enqueue("helper", "u", "another")

    assert again.id == job.id
    with pytest.raises(ResultTimeoutError):
        await again.result(timeout=0)


class City(BaseModel):
    name: str
    people: int


async def test_an_output_schema_gives_a_structured_output(dsn, migrated):
    agent = LlmAgent(
        name="a",
        model=ScriptedModel(replies=['{"name": "Oslo", "people": 700000}']),
        output_schema=City,
    )
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        assert (await job.result(timeout=5)).output == {
            "name": "Oslo",
            "people": 700000,
        }


async def test_a_workflows_output_is_the_output(dsn, migrated):
    def double(node_input: types.Content) -> dict[str, str]:
        return {"doubled": node_input.parts[0].text * 2}

    graph = Workflow(name="graph", edges=[(START, double)])
    async with AdkOban(dsn, prefix=migrated, agents={"g": graph}) as jobs:
        job = await AgentWorker.enqueue("g", "u", "ha")
        await drain(jobs)
        assert (await job.result(timeout=5)).output == {"doubled": "haha"}


async def test_usage_calls_events_and_state_are_counted(dsn, migrated):
    def remember(key: str, tool_context) -> str:
        """Remember a key."""
        tool_context.state[key] = 1
        tool_context.state[f"user:{key}"] = 2
        return "done"

    usage = types.GenerateContentResponseUsageMetadata(
        prompt_token_count=10, candidates_token_count=5, total_token_count=15
    )

    class Counted(ScriptedModel):
        async def generate_content_async(self, llm_request, stream=False):
            async for response in super().generate_content_async(llm_request, stream):
                yield response.model_copy(update={"usage_metadata": usage})

    model = Counted(replies=[call("remember", key="k"), "I will."])
    agent = LlmAgent(name="a", model=model, tools=[remember])
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        result = await job.result(timeout=5)

    assert (result.text, result.model_calls, result.event_count) == ("I will.", 2, 3)
    assert len(result.events) == 3
    assert result.usage["total_token_count"] == 30
    assert result.state == {"k": 1, "user:k": 2}
    assert result.duration.total_seconds() > 0


async def test_thoughts_are_no_part_of_the_answer(dsn, migrated):
    parts = [types.Part(text="hmm", thought=True), types.Part(text="Yes.")]
    agent = LlmAgent(name="a", model=ScriptedModel(replies=[parts]))
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        await drain(jobs)
        assert (await job.result(timeout=5)).text == "Yes."


async def test_an_answer_that_postgresql_cannot_hold_is_kept_all_the_same(
    dsn, migrated
):
    agent = LlmAgent(name="a", model=ScriptedModel(replies=["a\0b\ud800c"]))
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "hi")
        assert await drain(jobs) == {"completed": 1}
        assert (await job.result(timeout=5)).text == "a�b�c"


async def test_jobs_are_listed_newest_first_by_state_and_queue(client):
    first = await AgentWorker.enqueue("helper", "u", "1")
    await drain(client)
    second = await AgentWorker.enqueue("helper", "u", "2", queue="other")

    listed = await client.list_jobs()
    assert [job.id for job in listed] == [second.id, first.id]
    assert [j.id for j in await client.list_jobs(state="completed")] == [first.id]
    assert [j.id for j in await client.list_jobs(queue="other")] == [second.id]
    assert [j.id for j in await client.list_jobs(limit=1)] == [second.id]
    with pytest.raises(ValueError, match="state must be one of"):
        await client.list_jobs(state="done")


async def test_why_a_job_was_cancelled_that_never_ran_outlives_it(client):
    job = await AgentWorker.enqueue("helper", "u", "hi")
    await job.cancel(reason="not needed")
    await client.oban.delete_job(job.id)

    with pytest.raises(JobFailedError, match="cancelled: not needed"):
        await job.result(timeout=5)
    assert await client.get_job(job.id) is None
