"""A model without a network: it plans the tool calls and writes the answer by rules."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from google.adk.models import BaseLlm, LLMRegistry
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from oban import current_job

_THINKS = 0.2  # seconds
_UNRELIABLE = "offline-unreliable"


class OfflineModel(BaseLlm):
    """Reads the file first, then asks the other tools at once, then answers.

    Told to use one tool at a time, it does.
    """

    @classmethod
    def supported_models(cls) -> list[str]:
        """Return the names that ADK finds it by."""
        return ["offline", _UNRELIABLE]

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Give the next step of the plan; ADK calls this."""
        path, found = _so_far(llm_request)
        await asyncio.sleep(_THINKS)
        job = current_job()
        if self.model == _UNRELIABLE and found and job is not None and job.attempt < 3:
            raise ConnectionError(f"the model is down (attempt {job.attempt})")
        parts = _plan(_instruction(llm_request), llm_request.tools_dict, path, found)
        read, said = _tokens(llm_request.contents), _tokens(parts)
        yield LlmResponse(
            content=types.Content(role="model", parts=parts),
            usage_metadata=types.GenerateContentResponseUsageMetadata(
                prompt_token_count=read,
                candidates_token_count=said,
                total_token_count=read + said,
            ),
        )


LLMRegistry.register(OfflineModel)


def _plan(
    instruction: str, known: dict[str, Any], path: str | None, found: dict[str, Any]
) -> list[types.Part]:
    tools = [name for name in known if name not in found]
    if not known and "findings: " in instruction:
        return [types.Part(text=_headline(instruction.split("findings: ", 1)[1]))]
    if path is None or not tools:
        return [types.Part(text=_answer(found))]
    if "read_file" in tools:
        tools = ["read_file"]
    elif "one tool at a time" in instruction:
        tools = tools[:1]
    return [_call(name, path) for name in tools]


def _tokens(told: Sequence[types.Content] | Sequence[types.Part]) -> int:
    return sum(len(each.model_dump_json(exclude_none=True)) for each in told) // 4


def _call(name: str, path: str) -> types.Part:
    call = types.FunctionCall(name=name, args={"path": path})
    return types.Part(function_call=call)


def _instruction(request: LlmRequest) -> str:
    said = request.config.system_instruction if request.config else ""
    return said if isinstance(said, str) else ""


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
    if best := found.get("key_sentences") or found.get("weigh_sentences"):
        text = f"{text}: {' '.join(best)}" if text else " ".join(best)
    return text or json.dumps(found)


def _headline(findings: str) -> str:
    """Leave out how long the text is: its title, and what it says."""
    line = findings.strip().splitlines()[0]
    title, _, rest = line.partition("” has ")
    said = rest.partition(": ")[2]
    return f"{title}”: {said}" if said else line
