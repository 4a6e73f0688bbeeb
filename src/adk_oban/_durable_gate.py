"""ADK's gate before tools that require confirmation: what people have said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext

from . import _journal
from ._fingerprint import of_tool, without_run_ids
from ._frame import inside
from ._journal import Journal, Lane
from ._nested import Nested

type Gate = Callable[[BaseTool, dict[str, Any], ToolContext], Awaitable[Any]]

_REJECTED = "This tool call is rejected."


def around_gate(original: Gate) -> Gate:
    """Ask also for agents inside `AgentTool`, and tell agents why they may not."""

    @wraps(original)
    async def apply_confirmation_gate(
        tool: BaseTool, args: dict[str, Any], context: ToolContext
    ) -> Any:
        journal = _journal.current.get()
        if journal is None:
            return await original(tool, args, context)
        if inside.get() is None:
            response = await original(tool, args, context)
        else:
            nested = _nested(journal, tool, args, context)
            nested.confirmed()
            response = await original(tool, args, context)
            await nested.check()
        return _with_reason(journal, context, response)

    return apply_confirmation_gate


def _nested(
    journal: Journal, tool: BaseTool, args: dict[str, Any], context: ToolContext
) -> Nested:
    branch = without_run_ids(context._invocation_context.branch)
    lane = Lane("gate", context.agent_name, branch)
    call_id = journal.number(lane, of_tool({tool.name: args}))
    return Nested(journal, call_id, context.agent_name, tool, context, args)


def _with_reason(journal: Journal, context: ToolContext, response: Any) -> Any:
    answer = journal.answers.for_call(context.function_call_id)
    if answer is None or not answer.reason or response != {"error": _REJECTED}:
        return response
    return {"error": f"{_REJECTED[:-1]}: {answer.reason}"}
