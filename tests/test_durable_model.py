"""Model calls: each is paid once, however many attempts a job takes."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.apps.app import EventsCompactionConfig
from google.adk.apps.llm_event_summarizer import LlmEventSummarizer
from google.adk.models import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner
from google.adk.workflow import node
from google.genai import types

from adk_oban.testing import ScriptedModel, call, drain
from attempts import Runs, attempt, enqueue, fail_commits, in_order

asked: Counter[str] = Counter()


@pytest.fixture
def run(dsn, migrated):
    asked.clear()
    return Runs(dsn, migrated)


async def look(x: str = "") -> str:
    """Look."""
    return f"seen {x}"


def said(text: str, **more) -> LlmResponse:
    content = types.Content(role="model", parts=[types.Part(text=text)])
    return LlmResponse(content=content, **more)


def agent(model, **options) -> LlmAgent:
    return LlmAgent(name="a", model=model, tools=[look], **options)


async def test_a_recorded_call_is_not_made_again(run):
    model = ScriptedModel(replies=[call("look", x="1"), OSError("down"), "done"])
    seen = await run(agent(model))

    assert seen.ended == {"retryable": 1, "completed": 1}
    assert seen.steps(1) == ["model scripted live", "tool look live"]
    assert seen.steps(2) == [
        "model scripted replayed",
        "tool look replayed",
        "model scripted live",
    ]
    assert len(model.requests) == 3


async def test_the_result_says_what_was_saved(run):
    def used(prompt: int, answer: int) -> types.GenerateContentResponseUsageMetadata:
        return types.GenerateContentResponseUsageMetadata(
            prompt_token_count=prompt, candidates_token_count=answer
        )

    called = said("", usage_metadata=used(10, 2))
    called.content.parts = [call("look")]
    replies = [called, OSError("down"), said("done", usage_metadata=used(20, 4))]
    seen = await run(agent(ScriptedModel(replies=replies)))

    result = seen.result
    assert (result.attempts, result.model_calls) == (2, 2)
    assert result.steps == {
        "live": 1,
        "replayed": 2,
        "changed": 0,
        "live_model_calls": 1,
    }
    assert result.usage == {"prompt_token_count": 30, "candidates_token_count": 6}
    assert result.saved == {"prompt_token_count": 10, "candidates_token_count": 2}


async def test_a_replayed_answer_is_whole(run):
    answer = said(
        "looking",
        model_version="m-1",
        finish_reason="STOP",
        avg_logprobs=-0.5,
        custom_metadata={"k": [1]},
        grounding_metadata=types.GroundingMetadata(web_search_queries=["q"]),
    )
    answer.content.parts += [
        types.Part(text="hm", thought=True, thought_signature=b"\x00\xff"),
        call("look", x="1"),
    ]
    got = {}

    def after_model(callback_context, llm_response) -> None:
        got.setdefault(attempt(), llm_response.model_copy(deep=True))

    model = ScriptedModel(replies=[answer, OSError("down"), "done"])
    await run(agent(model, after_model_callback=after_model))
    assert got[2] == got[1]
    assert got[2].content.parts[1].thought_signature == b"\x00\xff"


async def test_a_changed_prompt_runs_live_and_what_is_not_changed_is_replayed(run):
    model = ScriptedModel(replies=[call("look", x="1"), OSError("down"), "new", "done"])

    def instruction(_context) -> str:
        return "Be brief." if attempt() == 1 else "Be kind."

    seen = await run(agent(model, instruction=instruction))
    assert seen.steps(2) == ["model scripted changed"]
    (changed,) = [step for step in seen.told if step["source"] == "changed"]
    assert changed["changed"] == ["instruction"]
    assert seen.result.text == "new"
    assert seen.result.steps["changed"] == 1


async def test_only_the_call_that_changed_runs_live(run):
    first = agent(ScriptedModel(replies=["one"])).model_copy(update={"name": "first"})

    def instruction(_context) -> str:
        return f"Attempt {attempt()}"

    second = LlmAgent(
        name="second",
        model=ScriptedModel(replies=[call("look"), OSError("down"), call("look"), "b"]),
        tools=[look],
        instruction=instruction,
    )
    seen = await run(in_order(first, second))
    assert seen.steps(2) == [
        "model scripted replayed",
        "model scripted changed",
        "tool look replayed",
        "model scripted live",
    ]


@pytest.mark.parametrize(
    ("part", "update"),
    [
        ("model", {"model": ScriptedModel(model="other", replies=["done"])}),
        ("tools", {"tools": []}),
        ("config", {"generate_content_config": types.GenerateContentConfig(top_k=3)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_deploy_between_two_attempts_names_what_it_changed(run, part, update):
    def old() -> LlmAgent:
        return agent(ScriptedModel(replies=[call("look"), OSError("down"), "done"]))

    def new() -> LlmAgent:
        fields = {"model": ScriptedModel(replies=["done"]), "tools": [look], **update}
        return LlmAgent(name="a", **fields)

    async with run.client(old(), backoff=lambda _job: 60) as jobs:
        job = await enqueue()
        await drain(jobs, with_scheduled=False)
    async with run.client(new()) as jobs:
        await drain(jobs)
        seen = await run.seen(jobs, job, {})
    assert seen.result.text == "done"
    assert [step["changed"] for step in seen.told] == [[part]]


async def test_equal_calls_get_their_own_answers(run):
    model = ScriptedModel(replies=["first", "second", OSError("down"), "third"])

    def alone(name: str) -> LlmAgent:
        return LlmAgent(name=name, model=model, include_contents="none")

    # One agent, run three times by its workflow: nothing tells the calls apart.
    async def thrice(ctx) -> str:
        inner = alone("inner")
        said = [await ctx.run_node(inner, node_input="same") for _ in range(3)]
        return " ".join(said)

    seen = await run(in_order(node(thrice, name="thrice", rerun_on_resume=True)))
    assert seen.result.output == "first second third"
    assert seen.count(2, "replayed") == 2


async def test_a_model_made_later_and_in_a_factory_is_recorded(run):
    class Later(ScriptedModel):
        async def generate_content_async(self, llm_request, stream=False):
            asked["later"] += 1
            yield said("x") if asked["later"] > 1 else called()

    def called() -> LlmResponse:
        return LlmResponse(content=types.Content(role="model", parts=[call("fails")]))

    async def fails() -> str:
        """Fail once."""
        asked["tool"] += 1
        if asked["tool"] == 1:
            raise OSError("down")
        return "ok"

    def factory() -> LlmAgent:
        class Inside(Later):
            async def generate_content_async(self, llm_request, stream=False):
                asked["inside"] += 1
                async for response in super().generate_content_async(llm_request):
                    yield response

        return LlmAgent(name="a", model=Inside(replies=[]), tools=[fails])

    seen = await run(factory)
    assert seen.steps(2)[0] == "model scripted replayed"
    assert asked == {"inside": 2, "later": 2, "tool": 2}
    assert seen.result.model_calls == 2


async def test_a_model_that_hands_on_its_parents_generator_is_one_step(run):
    class Thin(ScriptedModel):
        def generate_content_async(self, llm_request, stream=False):
            return super().generate_content_async(llm_request, stream)

    seen = await run(agent(Thin(replies=["done"])))
    assert seen.steps(1) == ["model scripted live"]
    assert seen.result.model_calls == 1


async def test_a_model_whose_method_is_a_mixins_is_recorded(run):
    class Speaks:
        async def generate_content_async(self, llm_request, stream=False):
            yield said("done")

    class Mixed(Speaks, BaseLlm):
        pass

    seen = await run(agent(Mixed(model="mixed")))
    assert seen.steps(1) == ["model mixed live"]


async def test_a_fallback_is_one_step(run):
    class Fallback(BaseLlm):
        model: str = "fallback"
        choices: list[BaseLlm]

        async def generate_content_async(self, llm_request, stream=False):
            for choice in self.choices:
                try:
                    async for response in choice.generate_content_async(llm_request):
                        yield response
                    return
                except OSError:
                    asked["failed"] += 1

    down = ScriptedModel(replies=lambda _: OSError("down"))
    up = ScriptedModel(replies=[call("look"), ValueError("broken"), "done"])
    seen = await run(agent(Fallback(choices=[down, up])))
    assert seen.steps(1) == ["model fallback live", "tool look live"]
    assert seen.steps(2)[0] == "model fallback replayed"
    assert asked["failed"] == 3
    assert seen.result.model_calls == 2


class Streams(ScriptedModel):
    """Says its replies word by word."""

    async def generate_content_async(self, llm_request, stream=False):
        asked["streamed" if stream else "at once"] += 1
        reply = self._next(llm_request)
        if isinstance(reply, BaseException):
            raise reply
        if not isinstance(reply, str):
            yield LlmResponse(content=types.Content(role="model", parts=[reply]))
            return
        for word in reply.split():
            yield said(word, partial=True)
        yield said(reply)


async def test_partial_chunks_are_not_recorded_and_a_replay_is_complete(run):
    model = Streams(replies=["half way there", OSError("down"), "all done"])
    chunks: Counter[int] = Counter()

    def after_model(callback_context, llm_response) -> None:
        chunks[attempt()] += 1

    first = LlmAgent(name="f", model=model, after_model_callback=after_model)
    second = LlmAgent(name="s", model=model)
    seen = await run(in_order(first, second), runner_opts={"streaming_mode": "sse"})

    assert asked == {"streamed": 3}
    assert chunks == {1: 4, 2: 1}
    assert [e["content"]["parts"] for e in seen.events[1:]] == [
        [{"text": "half way there"}],
        [{"text": "all done"}],
    ]


async def test_a_call_that_failed_half_way_is_made_again(run):
    class Breaks(Streams):
        async def generate_content_async(self, llm_request, stream=False):
            if attempt() == 1:
                yield said("half", partial=True)
                raise OSError("cut")
            yield said("whole")

    seen = await run(agent(Breaks(replies=[])), runner_opts={"streaming_mode": "sse"})
    assert (seen.steps(1), seen.steps(2)) == ([], ["model scripted live"])
    assert seen.result.text == "whole"


async def test_a_large_answer_is_replayed(run):
    data = b"\x00\xff" * 5_000_000
    picture = types.Part(inline_data=types.Blob(data=data, mime_type="image/png"))
    model = ScriptedModel(replies=[[picture, call("look")], OSError("down"), "done"])
    seen = await run(agent(model))

    assert seen.steps(2)[0] == "model scripted replayed"
    assert seen.session.events[1].content.parts[0].inline_data.data == data


async def test_an_answer_that_is_no_json_ends_the_job_and_names_the_model(run):
    strange = said("done", custom_metadata={"x": object()})
    seen = await run(agent(ScriptedModel(replies=[strange] * 3)))

    assert seen.ended == {"cancelled": 1}
    assert "model 'scripted' of agent 'a' answered what cannot" in seen.error
    assert seen.session is None


async def test_a_lone_surrogate_in_an_answer_does_no_harm(run):
    model = ScriptedModel(replies=[["\ud800", call("look")], OSError("down"), "done"])
    model.replies[0][0] = types.Part(text="\ud800")
    seen = await run(agent(model))
    assert seen.ended == {"retryable": 1, "completed": 1}


@pytest.mark.filterwarnings("ignore:.*EXPERIMENTAL")
async def test_the_summarizer_of_a_session_is_replayed(run, conn, migrated):
    summarizer = ScriptedModel(model="summarizer", replies=["in short"])
    app = App(
        name="app",
        root_agent=agent(ScriptedModel(replies=["one", "two"])),
        events_compaction_config=EventsCompactionConfig(
            summarizer=LlmEventSummarizer(llm=summarizer),
            compaction_interval=2,
            overlap_size=0,
        ),
    )
    await run(app)
    await fail_commits(conn, migrated)
    seen = await run(app, message="again")
    assert seen.ended == {"retryable": 1, "completed": 1}
    assert seen.steps(2) == ["model scripted replayed", "model summarizer replayed"]
    compacted = seen.session.events[-1].actions.compaction.compacted_content
    assert compacted.parts[0].text == "in short"


async def test_outside_a_job_nothing_is_recorded(run, conn, migrated):
    model = ScriptedModel(replies=["in a job", "by hand"])
    mine = agent(model)
    await run(mine)
    runner = InMemoryRunner(agent=mine, app_name="app")
    events = await runner.run_debug("hi", quiet=True)
    assert events[-1].content.parts[0].text == "by hand"
    rows = await (
        await conn.execute(f"SELECT count(*) FROM {migrated}.adk_oban_steps")
    ).fetchall()
    assert rows == [(1,)]


class SlowModel(ScriptedModel):
    """A model that hangs on the first attempt, after what it may have begun to say."""

    begins_with: str = ""
    left: list[int] = []

    async def generate_content_async(self, llm_request, stream=False):
        if attempt() == 1:
            try:
                if self.begins_with:
                    yield said(self.begins_with, partial=True)
                await asyncio.Event().wait()
            finally:
                self.left.append(attempt())
        async for response in super().generate_content_async(llm_request, stream):
            yield response


@pytest.mark.parametrize("begins_with", ["", "Once"])
@pytest.mark.parametrize("limit", [0.2, {"slow": 0.2}], ids=["all", "by name"])
async def test_a_call_that_takes_too_long_is_aborted_and_tried_again(
    run, begins_with, limit
):
    model = SlowModel(model="slow", replies=["done"], begins_with=begins_with)
    seen = await run(agent(model), adk_oban={"model_timeout": limit})
    assert seen.ended == {"retryable": 1, "completed": 1}
    assert (
        "TimeoutError: model 'slow' has not answered within 0.2 s; "
        "AdkOban(model_timeout=...) sets the limit" in seen.error
    )
    assert (model.left, seen.result.text) == ([1], "done")


async def test_a_limit_of_one_model_does_not_hold_for_others(run):
    model = ScriptedModel(replies=["done"])
    seen = await run(agent(model), adk_oban={"model_timeout": {"other": 0.000001}})
    assert seen.ended == {"completed": 1}


async def test_what_the_agent_does_between_two_calls_is_not_the_models_time(run):
    model = ScriptedModel(replies=[call("look"), "done"])
    mine = agent(model, after_tool_callback=lambda **_: asyncio.sleep(0.3))
    seen = await run(mine, adk_oban={"model_timeout": 0.25})
    assert seen.ended == {"completed": 1}


async def test_the_limit_of_an_attempt_aborts_a_call_too(run):
    model = SlowModel(replies=["done"])
    seen = await run(agent(model), timeout=0.3)
    assert "the attempt has not ended within 0.3 s" in seen.error
    assert (model.left, seen.result.text) == ([1], "done")
