"""Token streaming: text as it is made, together, in pieces that fit, and never late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from google.adk.agents import LlmAgent
from google.adk.events import Event
from google.adk.models import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from adk_oban import AgentWorker, _partials
from adk_oban._partials import Partials
from adk_oban._shown import Shown, ShownEvent
from adk_oban._steps import Owner
from adk_oban.jobs import AgentJob
from attempts import attempt
from test_events import until_watched
from test_steps import NOW

OWNER = Owner(1, NOW.replace(tzinfo=None), 1)


def part(text: str, *, thought: bool | None = None) -> types.Content:
    return types.Content(role="model", parts=[types.Part(text=text, thought=thought)])


def piece(text: str, *, author: str = "a", **options) -> Event:
    return Event(author=author, partial=True, content=part(text, **options))


class Typist(BaseLlm):
    """A model that types: each text of an answer as soon as it is let."""

    model: str = "typist"
    answers: list[list[str]]
    steps: asyncio.Semaphore
    model_config = {"arbitrary_types_allowed": True}

    async def generate_content_async(
        self, llm_request, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        texts = self.answers.pop(0)
        for text in texts if stream else ():
            await self.steps.acquire()
            if text == "!":
                raise OSError("cut off")
            yield LlmResponse(content=part(text), partial=True)
        await self.steps.acquire()
        yield LlmResponse(content=part("".join(texts)))


@pytest.fixture
def partials(client) -> Partials:
    return client._services.partials


async def said(conn) -> list[dict]:
    """Return the partial text that was told."""
    return [json.loads(one.payload) async for one in conn.notifies(timeout=0.05)]


@pytest.fixture
async def heard(conn, migrated):
    await conn.execute(f'LISTEN "{migrated}.oban_adk_partial"')

    async def heard() -> list[dict]:
        return await said(conn)

    return heard


async def test_a_watcher_sees_text_as_it_is_made_and_then_the_whole(serve):
    model = Typist(answers=[["Hel", "lo ", "you"]], steps=asyncio.Semaphore(0))
    async with serve(agents={"a": LlmAgent(name="a", model=model)}) as jobs:
        job = await AgentWorker.enqueue(
            "a", "u", "hi", streaming=True, schedule_in=3600
        )
        seen: asyncio.Queue = asyncio.Queue()
        following = asyncio.create_task(into(seen, job))
        await until_watched(jobs, job)
        await due(jobs)
        typed = []
        for _ in range(3):
            model.steps.release()
            async with asyncio.timeout(10):
                typed.append(await seen.get())
        model.steps.release()
        await following

    assert [(e.type, e.text, e.data) for e in typed] == [
        ("partial", "Hel", {"offset": 0}),
        ("partial", "lo ", {"offset": 3}),
        ("partial", "you", {"offset": 6}),
    ]
    assert {(e.agent, e.cursor, e.attempt) for e in typed} == {("a", None, 1)}
    rest = [seen.get_nowait() for _ in range(seen.qsize())]
    assert [(e.type, e.text) for e in rest] == [
        ("event", "Hello you"),
        ("completed", "Hello you"),
    ]


async def into(seen: asyncio.Queue, job: AgentJob) -> None:
    async for event in job.events():
        seen.put_nowait(event)


async def due(jobs) -> None:
    """Make what is scheduled for later run now."""
    services = jobs._services
    async with services.pool.connection() as conn:
        await conn.execute(
            f"UPDATE {services.prefix}.oban_jobs "
            "SET scheduled_at = timezone('UTC', now())"
        )


async def test_without_streaming_there_is_no_partial_text(serve, heard):
    model = Typist(answers=[["Hel", "lo"]], steps=asyncio.Semaphore(9))
    async with serve(agents={"a": LlmAgent(name="a", model=model)}):
        job = await AgentWorker.enqueue("a", "u", "hi")
        assert (await job.result(timeout=10)).text == "Hello"
    assert await heard() == []


async def test_who_does_not_want_partial_text_gets_none(serve):
    model = Typist(answers=[["Hel", "lo"]], steps=asyncio.Semaphore(9))
    async with serve(agents={"a": LlmAgent(name="a", model=model)}):
        job = await AgentWorker.enqueue("a", "u", "hi", streaming=True)
        async with asyncio.timeout(10):
            events = [event async for event in job.events(partial=False)]
    assert [event.type for event in events] == ["event", "completed"]


async def test_text_never_comes_after_its_event(serve):
    answers = [[f"{n}", "..."] * 3 for n in range(40)]
    model = Typist(answers=[*answers], steps=asyncio.Semaphore(1_000))
    agent = LlmAgent(name="a", model=model)
    async with serve(agents={"a": agent}, queues={"agents": 1}):
        jobs = [
            await AgentWorker.enqueue("a", "u", "hi", streaming=True) for _ in answers
        ]
        for job in jobs:
            async with asyncio.timeout(20):
                kinds = [event.type async for event in job.events()]
            assert kinds[kinds.index("event") :] == ["event", "completed"]


async def test_text_of_an_attempt_that_failed_is_begun_anew_by_the_next(serve):
    model = Typist(answers=[["Hel", "!"], ["Hello"]], steps=asyncio.Semaphore(0))
    async with serve(agents={"a": LlmAgent(name="a", model=model)}) as jobs:
        job = await AgentWorker.enqueue(
            "a", "u", "hi", streaming=True, schedule_in=3600
        )
        seen: asyncio.Queue = asyncio.Queue()
        following = asyncio.create_task(into(seen, job))
        await until_watched(jobs, job)
        await due(jobs)
        model.steps.release()
        async with asyncio.timeout(10):
            first = await seen.get()
            model.steps.release()
            while (event := await seen.get()).type != "failed":
                pass
            model.steps.release()
            second = await seen.get()
            model.steps.release()
        await following

    assert [(e.text, e.attempt, e.data["offset"]) for e in (first, second)] == [
        ("Hel", 1, 0),
        ("Hello", 2, 0),
    ]
    assert attempt() == 0 and event.type == "failed"


async def test_what_comes_within_the_interval_is_told_together(partials, heard):
    for text in "abc":
        partials.add(OWNER, 0, piece(text))
    await partials.send()
    partials.add(OWNER, 0, piece("d"))
    partials.add(OWNER, 0, piece("x", author="b"))
    await partials.send()

    told = [(one["agent"], one["text"], one["offset"]) for one in await heard()]
    assert told == [("a", "abc", 0), ("a", "d", 3), ("b", "x", 0)]


@pytest.mark.parametrize(
    "text", ["x" * 20_000, "ü" * 9_000, "😀" * 5_000, '\\"\n' * 6_000]
)
async def test_long_text_is_told_in_pieces_that_fit(partials, heard, text):
    partials.add(OWNER, 0, piece(text))
    await partials.send()

    pieces = await heard()
    assert "".join(one["text"] for one in pieces) == text
    offsets = [one["offset"] for one in pieces]
    assert offsets == [
        sum(len(p["text"]) for p in pieces[:n]) for n in range(len(pieces))
    ]


async def test_what_postgresql_cannot_hold_is_told_all_the_same(partials, heard):
    partials.add(OWNER, 0, piece("a\0b\ud800c"))
    await partials.send()
    assert [one["text"] for one in await heard()] == ["a�b�c"]


async def test_thoughts_are_not_told(partials, heard):
    partials.add(OWNER, 0, piece("hmm", thought=True))
    await partials.send()
    assert await heard() == []


async def test_what_does_not_get_away_is_dropped_and_counted(partials, heard):
    for _ in range(9):
        partials.add(OWNER, 0, piece("x" * 10_000))
    partials.add(OWNER, 0, piece("end"))
    await partials.send()

    told = await heard()
    assert told[-1]["text"].endswith("end")
    assert told[-1]["offset"] + len(told[-1]["text"]) == 90_003
    assert sum(len(one["text"]) for one in told) <= _partials._MOST_UNSENT


async def test_a_server_that_is_away_costs_only_the_text(partials, client, caplog):
    await client._services.pool.close()
    partials.add(OWNER, 0, piece("gone"))
    await partials.send()
    assert "partial text was dropped" in caplog.text


async def test_text_waits_for_the_events_before_it(client, migrated, heard):
    written = asyncio.Event()
    shown = Shown(written.wait)
    partials = Partials(client._services.pool, migrated, shown)
    shown.put(ShownEvent(1, OWNER.attempted_at, 1, "k", 0, "{}"))
    partials.add(OWNER, 1, piece("next"))
    await partials.send()
    assert await heard() == []

    shown.withdraw(1)
    await partials.send()
    assert [one["text"] for one in await heard()] == ["next"]
