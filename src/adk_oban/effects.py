"""Tools with effects: what may happen once, at most once, or exactly once.

A tool that was running when its process died runs again on the next attempt, since
nobody knows how far it came. Three ways to live with that, from weak to strong:

- `idempotency_key`: a key that stays the same, for services that know the word.
- `once`: the tool is not run a second time before a person has said what happened.
- `transactional`: what the tool writes and the record that it did commit together.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, get_type_hints

from google.adk.tools._node_tool import NodeTool
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from psycopg import AsyncConnection

from ._fingerprint import short_digest

_EFFECT = "__adk_oban_effect__"
ONCE, TRANSACTIONAL = "once", "transactional"

step_key: ContextVar[str | None] = ContextVar("adk_oban_step_key", default=None)
"""What names the tool call that runs in this context."""

connection: ContextVar[AsyncConnection[Any] | None] = ContextVar(
    "adk_oban_connection", default=None
)
"""The connection of the transactional tool that runs in this context."""


def idempotency_key(tool_context: ToolContext) -> str:
    """Return a key of this tool call that stays the same over all attempts of its job.

    Pass it on to services that take one (`Idempotency-Key`), and a call that is made
    again after a crash charges or sends nothing twice.

    Args:
        tool_context: The tool's own context.

    Returns:
        32 characters. Outside a job, the same for the same call of an invocation.

    Example:
        >>> async def pay(amount: int, tool_context: ToolContext) -> dict:
        ...     key = idempotency_key(tool_context)
        ...     return await bank.charge(amount, headers={"Idempotency-Key": key})
    """
    if key := step_key.get():
        return key
    return short_digest(tool_context.invocation_id, str(tool_context.function_call_id))


def once[T: Callable[..., Any] | BaseTool](tool: T) -> T:
    """Make a tool that is never run twice without a person's word.

    Its start is recorded before its body runs. When its outcome is not known after a
    crash, a time-out or an error of its own, it is not run again: the job waits until
    somebody says what happened, with `AgentJob.decide` or `adk-oban decide`.

    Args:
        tool: A function, or an ADK tool; none that runs agents, whose own tools can be
            marked.

    Raises:
        TypeError: It is an `AgentTool` or the like.

    Example:
        >>> @once
        ... async def send_letter(to: str, text: str) -> str: ...
    """
    if isinstance(tool, AgentTool | NodeTool):
        raise TypeError(
            f"{tool.name!r} runs agents, and cannot be marked @once; mark their tools"
        )
    # A method takes no attributes, but the function behind it does.
    setattr(getattr(tool, "__func__", tool), _EFFECT, ONCE)
    return tool


def transactional[**P, R](
    function: Callable[P, Awaitable[R]],
) -> Callable[..., Awaitable[R]]:
    """Make a tool whose writes to the database happen exactly once.

    The tool gets a psycopg connection in its keyword parameter `conn`, which the model
    does not see. What it writes and the record of what it returned are one transaction:
    whatever crashes, both are there or neither. It must not commit by itself.

    Args:
        function: An async function with a parameter `conn`.

    Raises:
        TypeError: It is not async, or has no such parameter.

    Example:
        >>> @transactional
        ... async def book(room: str, *, conn: AsyncConnection) -> str:
        ...     await conn.execute("INSERT INTO bookings (room) VALUES (%s)", [room])
        ...     return "booked"
    """
    signature = inspect.signature(function)
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"a transactional tool must be async, {name!r} is not")
    if "conn" not in signature.parameters:
        raise TypeError(
            f"a transactional tool needs a parameter 'conn', {name!r} has none"
        )

    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> R:
        conn = kwargs.pop("conn", None) or connection.get()
        if conn is None:
            raise RuntimeError(
                f"{name!r} is a transactional tool: it has a connection only inside a "
                "job; elsewhere, give it one: conn=..."
            )
        return await function(*args, conn=conn, **kwargs)  # type: ignore[arg-type]  # P holds conn

    # Without conn, which is not the model's to say.
    shown = [p for p in signature.parameters.values() if p.name != "conn"]
    call.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]  # inspect reads it
    hints = _hints(function)
    call.__annotations__ = {k: v for k, v in hints.items() if k != "conn"}
    del call.__wrapped__
    setattr(call, _EFFECT, TRANSACTIONAL)
    return call


def effect_of(tool: BaseTool) -> str | None:
    """Return which promise a tool was given; None for the default."""
    function = getattr(tool, "func", None)
    effect: str | None = getattr(tool, _EFFECT, None) or getattr(
        function, _EFFECT, None
    )
    return effect


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError:  # of a name that only type checkers import
        return dict(function.__annotations__)
