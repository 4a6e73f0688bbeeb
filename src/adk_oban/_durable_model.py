"""Model calls: recorded when they are complete, and answered from the journal."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from google.adk.agents.readonly_context import ReadonlyContext
from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError

from . import _journal
from ._codec import storable
from ._fingerprint import of_model, without_run_ids
from ._journal import Entry, Journal, Lane
from ._raised import decode_error
from ._verdict import UnrecordableError

type Generate = Callable[..., AsyncGenerator[LlmResponse, None]]

_responses = TypeAdapter(list[LlmResponse])

# Inside a model call: one that a model makes of another, as a fallback does.
_inside: ContextVar[bool] = ContextVar("adk_oban_inside_model", default=False)
# The agent and the branch that chose a model last, which is the one that calls it.
_caller: ContextVar[tuple[str, str]] = ContextVar("adk_oban_caller", default=("", ""))


def around_model_choice(original: Callable[..., Any]) -> Callable[..., Any]:
    """Note which agent is about to call a model."""

    @wraps(original)
    async def canonical_model_async(self: Any, ctx: ReadonlyContext) -> BaseLlm:
        if _journal.current.get() is not None:
            invocation = ctx._invocation_context
            _caller.set((self.name, without_run_ids(invocation.branch)))
        model: BaseLlm = await original(self, ctx)
        return model

    return canonical_model_async


def around_model(original: Generate) -> Generate:
    """Answer a model call from the journal, or make and record it."""

    @wraps(original)
    def generate_content_async(
        self: BaseLlm, llm_request: LlmRequest, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[LlmResponse, None]:
        journal = _journal.current.get()
        if journal is None or _inside.get():
            return original(self, llm_request, *args, **kwargs)

        def live() -> AsyncGenerator[LlmResponse, None]:
            return original(self, llm_request, *args, **kwargs)

        return _durable(
            journal, llm_request, live, name=llm_request.model or self.model
        )

    return generate_content_async


async def _durable(
    journal: Journal,
    request: LlmRequest,
    live: Callable[[], AsyncGenerator[LlmResponse, None]],
    *,
    name: str,
) -> AsyncGenerator[LlmResponse, None]:
    agent, branch = _caller.get()
    labels = (request.config.labels if request.config else None) or {}
    lane = Lane("model", labels.get("adk_agent_name", agent), branch)
    await journal.goes_on(lane)
    entry = journal.begin(lane, name, of_model(request))
    if (payload := entry.payload) is not None:
        if (error := decode_error(payload)) is not None:
            await journal.raised_again(entry, error)
            raise error
        await journal.replayed(entry)
        for response in _responses.validate_json(payload):
            yield response
        return
    complete: list[LlmResponse] = []
    began = time.perf_counter()
    mine = (entry.key, entry.ordinal)
    await journal.in_flight.admit()
    journal.in_flight.begin(mine)
    try:
        async for response in _apart(live, name, journal.model_timeout_of(name)):
            if response.partial:
                yield response
            else:
                complete.append(response)
    except Exception as error:
        journal.in_flight.end(mine)
        journal.failed(entry, error)
        raise
    except BaseException:
        journal.in_flight.end(mine)
        journal.release(entry)
        raise
    took = time.perf_counter() - began
    recorded = await _record(journal, entry, complete, took)
    journal.in_flight.end(mine)
    for response in recorded:
        yield response


async def _apart(
    live: Callable[[], AsyncGenerator[LlmResponse, None]],
    name: str,
    seconds: float | None,
) -> AsyncGenerator[LlmResponse, None]:
    """Drive a model's generator, and be inside of it only while it runs.

    A generator runs in the context of whoever asks it for more, so that neither the
    mark nor the time-out must be left there between two responses.
    """
    loop = asyncio.get_running_loop()
    until = None if seconds is None else loop.time() + seconds
    token = _inside.set(True)
    try:
        responses = live()
    finally:
        _inside.reset(token)
    try:
        while True:
            token = _inside.set(True)
            try:
                async with asyncio.timeout_at(until) as deadline:
                    response = await anext(responses)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                if not deadline.expired():
                    raise
                raise TimeoutError(
                    f"model {name!r} has not answered within {seconds:g} s; "
                    "AdkOban(model_timeout=...) sets the limit"
                ) from error
            finally:
                _inside.reset(token)
            yield response
    finally:
        if isinstance(responses, AsyncGenerator):  # a model may return what is less
            await responses.aclose()


async def _record(
    journal: Journal, entry: Entry, complete: list[LlmResponse], duration: float
) -> list[LlmResponse]:
    """Record what a model answered; return it as it is from now on."""
    try:
        payload = _responses.dump_json(complete, exclude_none=True).decode()
    except PydanticSerializationError:
        payload = _storable(journal, entry, complete)
        complete = _responses.validate_json(payload)
    usage = next((u for r in reversed(complete) if (u := _usage(r))), None)
    await journal.done(entry, payload, duration, usage=usage)
    return complete


def _storable(journal: Journal, entry: Entry, complete: list[LlmResponse]) -> str:
    """Return an answer that holds what UTF-8 cannot, with U+FFFD in its place."""
    try:
        plain = _responses.dump_python(complete, mode="json", exclude_none=True)
        return storable(json.dumps(plain, ensure_ascii=False))
    except (PydanticSerializationError, TypeError, ValueError) as error:
        refused = UnrecordableError(
            f"model {entry.name!r} of agent {entry.lane.agent!r} answered what cannot "
            f"be recorded as JSON: {error}"
        )
        raise journal.ended(refused) from error


def _usage(response: LlmResponse) -> dict[str, int] | None:
    if response.usage_metadata is None:
        return None
    counts = response.usage_metadata.model_dump(exclude_none=True)
    return {name: count for name, count in counts.items() if isinstance(count, int)}
