"""A model without a network: it plans the tool calls and writes the answer by rules."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.models import BaseLlm, LLMRegistry
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from oban import current_job


class OfflineModel(BaseLlm):
    """Reads the file first, then asks the other tools at once, then answers."""

    @classmethod
    def supported_models(cls) -> list[str]:
        """Return the names that ADK finds it by."""
        return ["offline", "offline-unreliable"]

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Give the next step of the plan; ADK calls this."""
        job = current_job()
        if self.model == "offline-unreliable" and job is not None and job.attempt < 3:
            raise ConnectionError(f"the model is down (attempt {job.attempt})")
        path, found = _so_far(llm_request)
        tools = [name for name in llm_request.tools_dict if name not in found]
        parts: list[types.Part]
        if path is None or not tools:
            parts = [types.Part(text=_answer(found))]
        elif "read_file" in tools:
            parts = [_call("read_file", path)]
        else:
            parts = [_call(name, path) for name in tools]
        tokens = sum(len(c.model_dump_json()) for c in llm_request.contents) // 4
        yield LlmResponse(
            content=types.Content(role="model", parts=parts),
            usage_metadata=types.GenerateContentResponseUsageMetadata(
                prompt_token_count=tokens, total_token_count=tokens
            ),
        )


LLMRegistry.register(OfflineModel)


def _call(name: str, path: str) -> types.Part:
    call = types.FunctionCall(name=name, args={"path": path})
    return types.Part(function_call=call)


def _so_far(request: LlmRequest) -> tuple[str | None, dict[str, Any]]:
    """Return the path that the user named last, and what tools have said since."""
    path: str | None = None
    found: dict[str, Any] = {}
    for content in request.contents:
        for part in content.parts or []:
            if part.function_response and part.function_response.response is not None:
                answer = part.function_response.response
                found[part.function_response.name or ""] = answer.get("result", answer)
            elif part.text and (named := re.search(r"<(.+?)>", part.text)):
                path, found = named[1], {}
    return path, found


def _answer(found: dict[str, Any]) -> str:
    if not found:
        return "No file was named, and there is nothing else that these rules can do."
    said = []
    if "read_file" in found:
        said.append(f"“{found['read_file'].get('title', '?')}”")
    if "count" in found:
        counted = found["count"]
        said.append(f"has {counted['words']} words in {counted['sentences']} sentences")
    if found.get("headings"):
        said.append(f"under {', '.join(found['headings'])}")
    text = " ".join(said)
    if found.get("key_sentences"):
        text = f"{text}: {' '.join(found['key_sentences'])}" if text else ""
        text = text or " ".join(found["key_sentences"])
    return text or json.dumps(found)
