"""The worker processes of a measurement, as the parent sees them."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

from bench.worker import Spec, work


@cache
def _fork_server() -> Any:
    # A process that has imported all of it already, and whose forks are as new as any:
    # importing ADK takes two seconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.worker"])
    return context


class Member:
    """One worker process.

    Args:
        spec: What it is.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._pipe: Connection
        self._pipe, theirs = _fork_server().Pipe()
        self._process = _fork_server().Process(target=work, args=(spec, theirs))
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid or 0

    async def ready(self) -> None:
        """Wait until it has started."""
        await self._told()

    async def ask(self, what: str, **values: Any) -> dict[str, Any]:
        """Let it do something, and return what it says."""
        self._pipe.send({"do": what, **values})
        return await self._told()

    async def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        await asyncio.to_thread(self._process.join)
        self._pipe.close()

    async def _told(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = await asyncio.to_thread(self._pipe.recv)
        except EOFError:
            raise RuntimeError("a worker of the benchmark ended; see above") from None
        return told


@asynccontextmanager
async def crew(*specs: Spec) -> AsyncIterator[list[Member]]:
    """Worker processes that have started; killed at the end, which is quickest."""
    members = [Member(spec) for spec in specs]
    try:
        for member in members:
            await member.ready()
        yield members
    finally:
        for member in members:
            await member.kill()
