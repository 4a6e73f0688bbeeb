"""Several worker processes, started, restarted and ended together."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

logger = logging.getLogger(__name__)

_QUICK = 10.0  # seconds: one that ends sooner has failed to start
_TRIES = 3
_BACKOFF = 0.5  # seconds, doubled each time


class Processes:
    """Runs one command in several processes, each started again when it dies.

    Args:
        arguments: What follows `python -m adk_oban`.
        count: How many processes.
        env: What is added to the environment.
        ended: When it is set, they are to end and none is started again.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        count: int,
        *,
        env: Mapping[str, str],
        ended: asyncio.Event,
    ) -> None:
        self._command = (sys.executable, "-m", "adk_oban", *arguments)
        self._count = count
        self._env = {**os.environ, **env}
        self._ended = ended
        self._running: set[asyncio.subprocess.Process] = set()

    async def run(self) -> bool:
        """Run them until `ended`; return whether they could be kept up until then."""
        kept = await asyncio.gather(*(self._keep() for _ in range(self._count)))
        return all(kept)

    def signal(self, number: int) -> None:
        """Send a signal to all of them."""
        for process in self._running:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self) -> bool:
        failures = 0
        while not self._ended.is_set():
            started = time.monotonic()
            code = await self._run_one()
            if self._ended.is_set():
                break
            quick = time.monotonic() - started < _QUICK
            failures = failures + 1 if quick else 0
            if failures == _TRIES:
                logger.error("a worker process failed %d times in a row", failures)
                self._ended.set()
                return False
            logger.warning("a worker process ended with %d; another is started", code)
            with suppress(TimeoutError):
                pause = _BACKOFF * 2**failures if quick else _BACKOFF
                await asyncio.wait_for(self._ended.wait(), pause)
        return True

    async def _run_one(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._env,
            # Ctrl-C is for this process alone, which passes it on.
            start_new_session=True,
        )
        self._running.add(process)
        try:
            return await process.wait()
        finally:
            self._running.discard(process)
