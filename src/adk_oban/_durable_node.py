"""Function nodes of a Workflow: recorded with their outputs and state, and replayed."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Callable
from functools import wraps
from typing import Any, cast

from google.adk.agents.context import Context
from google.adk.events import Event
from google.adk.events.request_input import RequestInput
from google.adk.utils._sync_runner import _invoke_callable
from google.adk.workflow._function_node import FunctionNode, _sync_to_async_gen
from google.genai import types
from pydantic import BaseModel

from . import _actions, _journal
from ._fingerprint import of_node, without_run_ids
from ._frame import Frame, frame
from ._journal import Entry, Journal, Lane
from ._payload import pack, unpack
from ._verdict import RefusedError, UnrecordableError

type Implementation = Callable[..., AsyncGenerator[Any, None]]


def around_node(original: Implementation) -> Implementation:
    """Answer a function node from the journal, or run and record it."""

    @wraps(original)
    def _run_impl(
        self: FunctionNode, *, ctx: Context, node_input: Any
    ) -> AsyncGenerator[Any, None]:
        journal = _journal.current.get()
        if journal is None:
            return original(self, ctx=ctx, node_input=node_input)
        # ADK binds the parameters and makes events of what comes; only the function is
        # another one, in a copy, since many jobs may share the node.
        node = self.model_copy()
        node._func = _NodeCall(journal, self, ctx).function()
        node._unwrapped_func = node._func
        return original(node, ctx=ctx, node_input=node_input)

    return _run_impl


def around_run_node(original: Callable[..., Any]) -> Callable[..., Any]:
    """Note that a body runs nodes of its own."""

    @wraps(original)
    async def run_node(self: Context, *args: Any, **kwargs: Any) -> Any:
        if (running := frame.get()) is not None:
            _refuse_promise(running)
            running.ran_nodes = True
        return await original(self, *args, **kwargs)

    return run_node


def _refuse_promise(running: Frame) -> None:
    journal = _journal.current.get()
    if journal is not None and running.promise is not None:
        # A replay would leave out the events of its nodes.
        raise journal.ended(
            RefusedError(
                f"a tool that is marked @{running.promise} must not run nodes: it is "
                "not run again, and they are. Let another tool run them"
            )
        )


class _NodeCall:
    """One run of a function node in a job."""

    def __init__(self, journal: Journal, node: FunctionNode, ctx: Context) -> None:
        self._journal = journal
        self._node = node
        self._ctx = ctx
        self._frame = Frame(ctx)

    def function(self) -> Callable[..., Any]:
        """Return what stands in for the node's function: one of the same sort."""
        function = self._node._unwrapped_func
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(
            function
        ):
            return self._generate
        return self._return

    async def _return(self, **inputs: Any) -> Any:
        entry = self._begin(inputs)
        if (payload := entry.payload) is not None:
            await self._journal.replayed(entry)
            (found,) = unpack(payload)
            _actions.apply(self._ctx, found)
            return found["item"]
        before = _actions.snapshot(self._ctx)
        began = time.perf_counter()
        token = frame.set(self._frame)
        try:
            function = self._node._unwrapped_func
            with self._journal.bodies.run(f"node {self._node.name!r}", function):
                item = await _invoke_callable(
                    self._node._func, inputs, unwrapped=function
                )
        except BaseException:
            self._journal.release(entry)
            raise
        finally:
            frame.reset(token)
        found = {"item": _data(item), **_actions.changes(self._ctx, before)}
        await self._record(entry, [found], time.perf_counter() - began)
        return item

    async def _generate(self, **inputs: Any) -> AsyncGenerator[Any, None]:
        entry = self._begin(inputs)
        if (payload := entry.payload) is not None:
            await self._journal.replayed(entry)
            for found in unpack(payload):
                _actions.apply(self._ctx, found)
                if "item" in found:
                    yield found["item"]
            return
        recorded: list[_actions.Changes] = []
        before = _actions.snapshot(self._ctx)
        began = time.perf_counter()
        try:
            async for item in self._apart(self._live(inputs)):
                changes = _actions.changes(self._ctx, before)
                recorded.append({"item": _data(item), **changes})
                yield item
                # After what ADK itself has done with the item.
                before = _actions.snapshot(self._ctx)
        except BaseException:
            self._journal.release(entry)
            raise
        # What it did after its last item.
        recorded.append(_actions.changes(self._ctx, before))
        await self._record(entry, recorded, time.perf_counter() - began)

    def _live(self, inputs: dict[str, Any]) -> AsyncGenerator[Any, None]:
        made: Any = self._node._func(**inputs)
        if inspect.isasyncgenfunction(self._node._unwrapped_func):
            return cast(AsyncGenerator[Any, None], made)
        return _sync_to_async_gen(made)

    async def _apart(
        self, items: AsyncGenerator[Any, None]
    ) -> AsyncGenerator[Any, None]:
        """Drive the function, and have its frame set only while it runs."""
        try:
            while True:
                token = frame.set(self._frame)
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                finally:
                    frame.reset(token)
                yield item
        finally:
            await items.aclose()

    def _begin(self, inputs: dict[str, Any]) -> Entry:
        asked = {k: v for k, v in inputs.items() if k != self._node._context_param_name}
        asked[""] = self._ctx.resume_inputs or None
        invocation = self._ctx._invocation_context
        branch = without_run_ids(invocation.branch)
        path = without_run_ids(self._ctx.node_path)
        agent = getattr(invocation.agent, "name", "")
        lane = Lane("node", agent, f"{branch}:{path}")
        return self._journal.begin(lane, self._node.name, of_node(asked))

    async def _record(
        self, entry: Entry, found: list[_actions.Changes], took: float
    ) -> None:
        if self._frame.ran_nodes:
            return
        try:
            payload = pack(found)
        except TypeError as error:
            refused = UnrecordableError(
                f"node {self._node.name!r} returned what cannot be recorded as JSON: "
                f"{error}"
            )
            raise self._journal.ended(refused) from error
        await self._journal.done(entry, payload, took)


def _data(item: Any) -> Any:
    # As ADK itself does with what is no event.
    if isinstance(item, BaseModel) and not isinstance(
        item, Event | RequestInput | types.Content
    ):
        return item.model_dump(mode="json")
    return item
