"""A model without memory: what it says follows from the request alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from .effects import effects
from .points import points


class Script(BaseLlm):
    """Says what its plan has at the place that the conversation has come to.

    The place is the number of answers that it has given since the user's message. So
    it says the same to the same request, in any process.

    Attributes:
        plan: The replies: a text, a function call, or a list of calls. In a text
            `{told}` becomes a fingerprint of the request.
        turns: How often the event loop goes round before it answers.
        ordered: Whether the order of the contents counts in fingerprints.
    """

    model: str = "script"
    plan: list[Any]
    turns: int = 1
    ordered: bool = True

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Answer; ADK calls this."""
        told = fingerprint(llm_request, ordered=self.ordered)
        with effects.body("model", self.model, told):
            for _ in range(self.turns):
                await asyncio.sleep(0)
            parts = self._reply(llm_request, told)
            if stream:
                for part in _pieces(parts):
                    yield _response([part], partial=True)
                    points.reach(f"amid model {self.model}")
        yield _response(parts)

    def _reply(self, request: LlmRequest, told: str) -> list[types.Part]:
        place = min(said(request), len(self.plan) - 1)
        match self.plan[place]:
            case str() as text:
                return [types.Part(text=text.replace("{told}", told))]
            case list() as calls:
                return [part.model_copy(deep=True) for part in calls]
            case part:
                return [part.model_copy(deep=True)]


def call(name: str, /, **args: Any) -> types.Part:
    """Return a function call."""
    return types.Part(function_call=types.FunctionCall(name=name, args=args))


def said(request: LlmRequest) -> int:
    """Return how often the model has answered since the user's last message."""
    count = 0
    for content in request.contents:
        if content.role == "model":
            count += 1
        elif any(_is_message(part) for part in content.parts or []):
            count = 0
    return count


def fingerprint(request: LlmRequest, *, ordered: bool = True) -> str:
    """Return a short digest of the conversation, without ids that ADK makes."""
    lines = []
    for content in request.contents:
        data = content.model_dump(mode="json", exclude_none=True)
        lines.append(json.dumps(_without_ids(data), sort_keys=True))
    if request.config is not None:
        lines.append(str(request.config.system_instruction))
    text = "\n".join(lines if ordered else sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _is_message(part: types.Part) -> bool:
    text = part.text
    return text is not None and text.startswith("Go")


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_ids(v) for k, v in value.items() if k != "id"}
    return [_without_ids(item) for item in value] if isinstance(value, list) else value


def _pieces(parts: list[types.Part]) -> list[types.Part]:
    text = parts[0].text
    if text is None:
        return []
    half = len(text) // 2
    return [types.Part(text=text[:half]), types.Part(text=text[half:])]


def _response(parts: list[types.Part], *, partial: bool | None = None) -> LlmResponse:
    return LlmResponse(
        content=types.Content(role="model", parts=parts),
        partial=partial,
        usage_metadata=None
        if partial
        else types.GenerateContentResponseUsageMetadata(
            prompt_token_count=10, candidates_token_count=5, total_token_count=15
        ),
    )
