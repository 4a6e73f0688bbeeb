"""An agent that needs three approvals, and the answer that it must give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from google.adk.tools.function_tool import FunctionTool
from google.genai import types

from bench.agents import Ruled
from bench.soak.notes import noted

NAME = "clerk"
STAGES = ("reserve", "pay", "ship")
"""The tools, in the order in which they are asked for."""

_REJECTED = "This tool call is rejected: "
_MODEL_SECONDS = 0.003
_TOOL_SECONDS = (0.02, 0.4)  # long enough for a kill to find some in flight


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person says to a question.

    Attributes:
        reason: Why not; empty: yes.
        amount: With which amount instead; None: with the one that was asked for.
    """

    reason: str = ""
    amount: int | None = None

    @classmethod
    def drawn(cls, chance: Random) -> Verdict:
        """Return one by chance."""
        match chance.randrange(4):
            case 0:
                return cls(reason=f"no, {chance.randrange(10**6)}")
            case 1:
                return cls(amount=chance.randrange(10**6))
        return cls()


def answer(job: int, verdicts: Mapping[str, Verdict]) -> str:
    """Return the one right answer of a job, by what people said at each stage."""
    results = []
    for stage in STAGES:
        said = verdicts[stage]
        amount = _amount(job, stage) if said.amount is None else said.amount
        results.append(said.reason or _receipt(job, stage, amount))
    return json.dumps([job, *results])


def _amount(job: int, stage: str) -> int:
    return job * 10 + STAGES.index(stage)


def _receipt(job: int, stage: str, amount: int) -> str:
    return f"{stage} {amount} for {job}"


async def _do(stage: str, job: int, amount: int) -> dict[str, str]:
    async with noted(job, stage):
        seconds = Random(f"{job} {stage}").uniform(*_TOOL_SECONDS)  # noqa: S311
        await asyncio.sleep(seconds)
    return {"receipt": _receipt(job, stage, amount)}


async def reserve(job: int, amount: int) -> dict[str, str]:
    """Reserve an amount."""
    return await _do("reserve", job, amount)


async def pay(job: int, amount: int) -> dict[str, str]:
    """Pay an amount."""
    return await _do("pay", job, amount)


async def ship(job: int, amount: int) -> dict[str, str]:
    """Ship an amount."""
    return await _do("ship", job, amount)


async def _decide(request: LlmRequest) -> types.Part:
    job, results = _so_far(request)
    async with noted(job, f"model {len(results)}"):
        await asyncio.sleep(_MODEL_SECONDS)
    if len(results) == len(STAGES):
        return types.Part(text=json.dumps([job, *results]))
    stage = STAGES[len(results)]
    args = {"job": job, "amount": _amount(job, stage)}
    return types.Part(function_call=types.FunctionCall(name=stage, args=args))


def _so_far(request: LlmRequest) -> tuple[int, list[str]]:
    job, results = 0, []
    for content in request.contents:
        for part in content.parts or []:
            if part.function_response:
                results.append(_told(part.function_response.response or {}))
            elif content.role == "user" and part.text:
                job = int(part.text)
    return job, results


def _told(response: dict[str, Any]) -> str:
    if "receipt" in response:
        return str(response["receipt"])
    return str(response.get("error", response)).removeprefix(_REJECTED)


CLERK = LlmAgent(
    name=NAME,
    model=Ruled(rule=_decide),
    tools=[
        FunctionTool(tool, require_confirmation=True) for tool in (reserve, pay, ship)
    ],
)
