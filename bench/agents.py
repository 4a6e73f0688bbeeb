"""The scripted agents of all variants: the same objects, and no network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from pydantic import ConfigDict

APP = "bench"
REPLAYED_TOOLS = 100
"""How many tool calls `replayed` makes, each after a model call of its own."""


@dataclass(slots=True)
class Seen:
    """What this process has seen of its agents.

    Attributes:
        waiting: How many invocations of `waiting` are in flight.
        tools: How many times a counted tool has run.
        failed: The messages at which `replayed` has failed already.
    """

    waiting: int
    tools: int
    failed: set[str]


SEEN = Seen(waiting=0, tools=0, failed=set())

type Rule = Callable[[LlmRequest], Awaitable[types.Part]]


class Ruled(BaseLlm):
    """A model that answers by a rule and remembers nothing.

    Attributes:
        rule: Makes the answer of a request.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str = "ruled"
    rule: Rule

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Answer; ADK calls this."""
        part = await self.rule(llm_request)
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


async def _answers(_request: LlmRequest) -> types.Part:
    return types.Part(text="An answer of a length that a short answer has.")


async def _answers_after_a_second(request: LlmRequest) -> types.Part:
    await asyncio.sleep(1)
    return await _answers(request)


def _calls(tool: str, times: int) -> Rule:
    async def rule(request: LlmRequest) -> types.Part:
        done, _ = _this_turn(request)
        if done < times:
            return _call(tool, number=done)
        return await _answers(request)

    return rule


async def _fails_once_at_the_end(request: LlmRequest) -> types.Part:
    done, message = _this_turn(request)
    if done < REPLAYED_TOOLS:
        return _call("count", number=done)
    if message not in SEEN.failed:
        SEEN.failed.add(message)
        raise ConnectionError("the model is down, once")
    return await _answers(request)


def _call(tool: str, **args: int) -> types.Part:
    return types.Part(function_call=types.FunctionCall(name=tool, args=args))


def _this_turn(request: LlmRequest) -> tuple[int, str]:
    """Return how many tools have answered since the user's message, and that."""
    done = 0
    for content in reversed(request.contents):
        for part in content.parts or []:
            if part.function_response:
                done += 1
            elif content.role == "user" and part.text:
                return done, part.text
    return done, ""


async def look_up(number: int) -> dict[str, int]:
    """Look a number up."""
    return {"found": number * 2}


async def count(number: int) -> dict[str, int]:
    """Count."""
    SEEN.tools += 1
    return {"counted": number}


async def wait(number: int) -> dict[str, int]:
    """Wait for something that does not come."""
    SEEN.waiting += 1
    await asyncio.Event().wait()
    return {"waited": number}


AGENTS = {
    "one_turn": LlmAgent(
        name="one_turn", model=Ruled(rule=_answers), instruction="Answer shortly."
    ),
    "three_tools": LlmAgent(
        name="three_tools",
        model=Ruled(rule=_calls("look_up", 3)),
        instruction="Look three numbers up.",
        tools=[look_up],
    ),
    "one_second": LlmAgent(
        name="one_second", model=Ruled(rule=_answers_after_a_second)
    ),
    "waiting": LlmAgent(
        name="waiting", model=Ruled(rule=_calls("wait", 1)), tools=[wait]
    ),
    "many_tools": LlmAgent(
        name="many_tools",
        model=Ruled(rule=_calls("count", REPLAYED_TOOLS)),
        tools=[count],
    ),
    "replayed": LlmAgent(
        name="replayed", model=Ruled(rule=_fails_once_at_the_end), tools=[count]
    ),
}


def message(text: str) -> types.Content:
    """Return a user's message."""
    return types.Content(role="user", parts=[types.Part(text=text)])
