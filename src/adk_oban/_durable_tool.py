"""Tool calls: recorded with what they did through their context, and replayed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from google.adk.tools._node_tool import NodeTool
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.set_model_response_tool import SetModelResponseTool
from google.adk.tools.tool_context import ToolContext
from google.adk.tools.transfer_to_agent_tool import TransferToAgentTool
from psycopg import AsyncConnection

from . import _actions, _journal, effects
from ._fingerprint import of_tool, without_run_ids
from ._frame import Frame, frame, inside
from ._journal import Entry, Journal, Lane
from ._nested import Nested
from ._payload import pack, unpack
from ._raised import decode_error
from ._verdict import Asks, RefusedError, Undecided, UnrecordableError

type Run = Callable[..., Awaitable[Any]]
type Live = Callable[[dict[str, Any]], Awaitable[Any]]

# They only run agents, whose own steps are recorded, or only say what ADK does next.
_PASSED_OVER = (AgentTool, NodeTool, SetModelResponseTool, TransferToAgentTool)

# How ADK's AgentTool begins what it returns when its agent has paused.
_STUCK = "Error: agent {!r} stopped waiting on unresolved"


def around_tool(original: Run) -> Run:
    """Answer a tool call from the journal, or make and record it."""

    @wraps(original)
    async def run_async(
        self: BaseTool, *, args: dict[str, Any], tool_context: ToolContext
    ) -> Any:
        journal = _journal.current.get()
        outer = frame.get()
        # The same call further up: a class that calls its parent's run_async.
        inner = outer is not None and outer.of is tool_context

        async def live(args: dict[str, Any]) -> Any:
            return await original(self, args=args, tool_context=tool_context)

        if journal is not None and isinstance(self, AgentTool):
            return await _inside(journal, self, live, args)
        if journal is None or inner or isinstance(self, _PASSED_OVER):
            return await live(args)
        return await _ToolCall(journal, self, args, tool_context).run(live)

    return run_async


async def _inside(
    journal: Journal, tool: AgentTool, live: Live, args: dict[str, Any]
) -> Any:
    """Run an agent inside a tool, whose own tools may ask people through us."""
    token = inside.set(tool.name)
    try:
        result = await live(args)
    finally:
        inside.reset(token)
    if isinstance(result, str) and result.startswith(_STUCK.format(tool.agent.name)):
        refused = RefusedError(
            f"agent {tool.agent.name!r} inside AgentTool asked for something that can "
            f"only be answered outside of one: {result} Make it a sub-agent"
        )
        raise journal.ended(refused)
    return result


class _ToolCall:
    """One call of a tool in a job."""

    def __init__(
        self,
        journal: Journal,
        tool: BaseTool,
        args: dict[str, Any],
        context: ToolContext,
    ) -> None:
        invocation = context._invocation_context
        branch = without_run_ids(invocation.branch)
        lane = Lane("tool", context.agent_name, branch)
        self._journal = journal
        self._tool = tool
        self._context = context
        self._effect = effects.effect_of(tool)
        self._entry = journal.begin(lane, tool.name, of_tool({tool.name: args}))
        self._args = args
        call_id = f"{self._entry.key}:{self._entry.ordinal}"
        self._asks = Nested(journal, call_id, lane.agent, tool, context, args)
        answer = self._asks.confirmed()
        if answer is None and context.tool_confirmation:
            answer = journal.answers.for_call(context.function_call_id)
        if answer is not None and answer.edited_args is not None:
            self._args = answer.edited_args

    async def run(self, live: Live) -> Any:
        return await self._asks.answered(await self._run(live))

    async def _run(self, live: Live) -> Any:
        entry = self._entry
        if (payload := entry.payload) is not None:
            return await self._replay(payload)
        if entry.recorded is not None:
            step = entry.recorded
            error = step.payload if step.state == "raised" else None
            raise self._journal.ended(Undecided(_unknown(entry, error)))
        token = effects.step_key.set(self._journal.key_of(entry))
        try:
            await self._journal.in_flight.admit()
            with self._journal.in_flight.step():
                match self._effect:
                    case effects.ONCE:
                        return await self._once(live)
                    case effects.TRANSACTIONAL:
                        return await self._transactional(live)
                    case _:
                        return await self._plain(live)
        finally:
            effects.step_key.reset(token)

    async def _replay(self, payload: str) -> Any:
        found = unpack(payload)
        if (reason := found.get("refused")) is not None:
            refused = RefusedError(
                f"tool {self._tool.name!r} was said to fail: {reason}"
            )
            raise self._journal.ended(refused)
        if (error := decode_error(payload)) is not None:
            await self._journal.raised_again(self._entry, error)
            raise error
        await self._journal.replayed(self._entry)
        _actions.apply(self._context, found)
        return found["result"]

    async def _plain(self, live: Live) -> Any:
        try:
            result, payload, took = await self._call(live)
        except BaseException as error:
            self._failed(error)
            raise
        if payload is None:
            self._journal.release(self._entry)
        else:
            await self._journal.done(self._entry, payload, took)
        return result

    async def _once(self, live: Live) -> Any:
        await self._journal.started(self._entry)
        try:
            result, payload, took = await self._call(live)
        except Asks:
            await self._journal.forget(self._entry)
            raise
        except Exception as error:
            await self._journal.raised(self._entry, error)
            await self._journal.in_flight.others()
            # No callback may make an answer of it, and have the model call again.
            undecided = Undecided(_unknown(self._entry, repr(error)))
            raise self._journal.ended(undecided) from error
        if payload is not None:
            await self._journal.done(self._entry, payload, took)
        return result

    async def _transactional(self, live: Live) -> Any:
        if effects.connection.get() is not None:
            refused = RefusedError(
                f"tool {self._tool.name!r} is @transactional and was called by another "
                "one, whose transaction is not its own"
            )
            raise self._journal.ended(refused)
        recorded = False
        try:
            async with self._journal.steps.transaction() as conn:
                result, payload, took = await self._in_transaction(conn, live)
                if payload is not None:
                    await self._journal.done(self._entry, payload, took, conn=conn)
                    recorded = True
        except Exception as error:
            if recorded:
                # Nobody knows whether the commit was done; the next attempt will see.
                raise self._journal.ended(error)  # noqa: B904  (it is the same one)
            raise
        return result

    async def _in_transaction(
        self, conn: AsyncConnection[Any], live: Live
    ) -> tuple[Any, str | None, float]:
        token = effects.connection.set(conn)
        try:
            return await self._call(live)
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            effects.connection.reset(token)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self._journal.failed(self._entry, error)
        else:
            self._journal.release(self._entry)

    async def _call(self, live: Live) -> tuple[Any, str | None, float]:
        """Run the body; the payload is None where it ran nodes of its own."""
        before = _actions.snapshot(self._context)
        mine = Frame(self._context, promise=self._effect)
        token = frame.set(mine)
        began = time.perf_counter()
        try:
            result = await self._in_time(live)
        finally:
            frame.reset(token)
        took = time.perf_counter() - began
        await self._asks.check()
        if mine.ran_nodes:
            return result, None, took
        found = {"result": result, **_actions.changes(self._context, before)}
        try:
            return result, pack(found), took
        except TypeError as error:
            refused = UnrecordableError(
                f"tool {self._tool.name!r} of agent {self._entry.lane.agent!r} "
                f"returned what cannot be recorded as JSON: {error}. Return JSON, "
                "bytes or google-genai's types"
            )
            raise self._journal.ended(refused) from error

    async def _in_time(self, live: Live) -> Any:
        seconds = self._journal.timeout_of(self._tool.name)
        try:
            async with asyncio.timeout(seconds) as deadline:
                what = f"tool {self._tool.name!r}"
                function = getattr(self._tool, "func", None)
                with self._journal.bodies.run(what, function):
                    return await live(self._args)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise TimeoutError(
                f"tool {self._tool.name!r} has not returned within {seconds:g} s; "
                "AdkOban(tool_timeout=...) sets the limit"
            ) from error


def _unknown(entry: Entry, error: str | None) -> str:
    how = "its process ended" if error is None else f"it raised {error}"
    return (
        f"tool {entry.name!r} runs once, and nobody knows whether it did: {how}. Say "
        "what happened with 'adk-oban decide' or AgentJob.decide"
    )
