"""Unmodified Gemini agents as jobs, with the real google-genai client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack

import pytest
from google.adk.agents import LlmAgent
from google.genai import types
from pydantic import BaseModel

from adk_oban import AdkOban, AgentResult, AgentWorker
from adk_oban.errors import JobFailedError
from adk_oban.testing import drain
from fake_gemini import Blocked, Call, Cut, Ends, FakeGemini, Fault, Hang, Reply

type Serve = Callable[..., FakeGemini]
type Ask = Callable[..., Awaitable[AgentResult]]


@pytest.fixture
def gemini(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server with replies, and points google-genai at it."""
    with ExitStack() as stack:

        def start(*replies: Reply) -> FakeGemini:
            server = stack.enter_context(FakeGemini(replies))
            for name, value in server.env.items():
                monkeypatch.setenv(name, value)
            return server

        yield start


@pytest.fixture
def ask(dsn: str, migrated: str) -> Ask:
    """Runs a job of an agent to its end: ask(*states, agent=..., error=...)."""

    async def run(
        *states: str, agent: LlmAgent, error: str = "", **options
    ) -> AgentResult:
        async with AdkOban(dsn, prefix=migrated, agents={"a": agent}) as jobs:
            job = await AgentWorker.enqueue("a", "u", "What now?", **options)
            ended = await drain(jobs)
            assert ended == {state: states.count(state) for state in states}
            assert error in str((await job.reload()).errors)
            return await job.result(timeout=5)

    return run


def agent(**options) -> LlmAgent:
    return LlmAgent(name="helper", model="gemini-flash-latest", **options)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def responses(body: dict) -> list[dict]:
    """Return what the tools said, as the model gets it."""
    last = body["contents"][-1]["parts"]
    return [part["functionResponse"]["response"] for part in last]


async def test_an_answer_comes_with_its_usage(gemini, ask):
    server = gemini("Nothing.")
    result = await ask("completed", agent=agent(instruction="Be brief."))

    assert (result.text, result.error_code) == ("Nothing.", None)
    assert result.usage["total_token_count"] == 8
    (request,) = server.requests
    assert request.model == "gemini-flash-latest"
    assert "Be brief." in request.body["systemInstruction"]["parts"][0]["text"]
    assert request.body["contents"][-1]["parts"] == [{"text": "What now?"}]


async def test_a_tool_is_called_and_the_model_gets_what_it_says(gemini, ask):
    server = gemini(Call("add", {"a": 1, "b": 2}), "It is 3.")
    result = await ask("completed", agent=agent(tools=[add]))

    assert (result.text, result.model_calls) == ("It is 3.", 2)
    assert responses(server.requests[1].body) == [{"result": 3}]


async def test_parallel_calls_are_answered_together_and_in_order(gemini, ask):
    calls = [Call("add", {"a": n, "b": n}) for n in (1, 2, 3)]
    server = gemini(calls, "Done.")
    result = await ask("completed", agent=agent(tools=[add]))

    assert result.text == "Done."
    assert responses(server.requests[1].body) == [{"result": n} for n in (2, 4, 6)]


async def test_a_streamed_answer_is_whole_and_stored_once(gemini, ask):
    server = gemini(Call("add", {"a": 1, "b": 2}), "It is three.")
    streaming = {"streaming_mode": "sse"}
    result = await ask("completed", agent=agent(tools=[add]), runner_opts=streaming)

    assert result.text == "It is three."
    assert result.event_count == 3
    assert [request.stream for request in server.requests] == [True, True]


async def test_a_schema_makes_structured_output(gemini, ask):
    class Sum(BaseModel):
        total: int

    server = gemini('{"total": 3}')
    result = await ask("completed", agent=agent(output_schema=Sum))

    assert result.output == {"total": 3}
    config = server.requests[0].body["generationConfig"]
    assert config["responseMimeType"] == "application/json"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(429, retry_after=1), "429 RESOURCE_EXHAUSTED"),
        (Fault(503), "503 UNAVAILABLE"),
        (Fault(500), "500 INTERNAL"),
        (Cut(), "peer closed connection"),
    ],
    ids=str,
)
async def test_a_fault_fails_the_attempt_and_the_next_one_answers(
    gemini, ask, fault, error
):
    server = gemini(fault, "Here I am.")
    result = await ask("retryable", "completed", agent=agent(), error=error)

    assert (result.text, result.attempts) == ("Here I am.", 2)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (Fault(429, retry_after=90), 90),
        (Fault(429, retry_info="91.5s"), 92),
        (Fault(503, retry_after=90, retry_info="92s"), 92),
        (Fault(429, retry_after=1_000_000), 3600),
    ],
    ids=str,
)
async def test_a_retry_waits_as_long_as_the_service_asks(
    gemini, dsn, migrated, fault, seconds
):
    gemini(fault)
    async with AdkOban(dsn, prefix=migrated, agents={"a": agent()}) as jobs:
        job = await AgentWorker.enqueue("a", "u", "What now?")
        assert await drain(jobs, with_scheduled=False) == {"retryable": 1}
        again = await job.reload()

    waits = (again.scheduled_at - again.attempted_at).total_seconds()
    assert seconds <= waits <= seconds + 5


async def test_a_connection_cut_in_the_middle_of_a_stream_is_no_answer(gemini, ask):
    gemini(Cut(), "Whole again.")
    streaming = {"streaming_mode": "sse"}
    options = {"runner_opts": streaming, "error": "peer closed connection"}
    result = await ask("retryable", "completed", agent=agent(), **options)

    assert (result.text, result.attempts) == ("Whole again.", 2)


async def test_a_server_that_hangs_is_given_up_after_the_agents_own_timeout(
    gemini, ask
):
    gemini(Hang(), "At last.")
    options = types.HttpOptions(timeout=100)  # ms
    config = types.GenerateContentConfig(http_options=options)
    slow = agent(generate_content_config=config)
    result = await ask("retryable", "completed", agent=slow, error="Timeout")

    assert (result.text, result.attempts) == ("At last.", 2)


async def test_a_request_that_is_always_refused_discards_the_job(gemini, ask):
    gemini(*[Fault(400)] * 3)

    with pytest.raises(JobFailedError, match=r"discarded: .*400 INVALID_ARGUMENT"):
        await ask("retryable", "discarded", "retryable", agent=agent())


@pytest.mark.parametrize("reply", [Ends("SAFETY"), Blocked("SAFETY")], ids=str)
async def test_a_safety_block_is_an_outcome_that_the_result_shows(gemini, ask, reply):
    server = gemini(reply)
    result = await ask("completed", agent=agent())

    assert (result.error_code, result.text) == ("SAFETY", "")
    assert len(server.requests) == 1


async def test_a_cut_off_answer_keeps_its_text_and_says_why(gemini, ask):
    gemini(Ends("MAX_TOKENS", "It is"))
    result = await ask("completed", agent=agent())

    assert (result.error_code, result.text) == ("MAX_TOKENS", "It is")
