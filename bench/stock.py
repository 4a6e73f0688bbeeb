"""Workers as a user writes them by hand for a plain Oban."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from google.adk.runners import Runner
from google.adk.sessions import BaseSessionService, InMemorySessionService
from oban import Job, worker

from bench.agents import AGENTS, APP, message

QUEUE = "bench"
URL = "ADK_OBAN_BENCH_URL"
"""The environment variable with SQLAlchemy's address of the database."""


@worker(queue=QUEUE)
class Noop:
    """Does nothing."""

    async def process(self, job: Job) -> None:
        """Do nothing; Oban calls this."""


@worker(queue=QUEUE)
class MemoryTurn:
    """Runs an agent in a session that is kept in memory: nothing is durable."""

    async def process(self, job: Job) -> None:
        """Run it; Oban calls this."""
        await run(_memory(), job.args)


@worker(queue=QUEUE)
class DatabaseTurn:
    """Runs an agent in a session that ADK's own service keeps in the database."""

    async def process(self, job: Job) -> None:
        """Run it; Oban calls this."""
        await run(_database(), job.args)


@cache
def _memory() -> BaseSessionService:
    return InMemorySessionService()


@cache
def _database() -> BaseSessionService:
    # Here, so that SQLAlchemy's memory is not in workers that do without.
    from google.adk.sessions import DatabaseSessionService

    return DatabaseSessionService(os.environ[URL])


async def run(service: BaseSessionService, args: dict[str, Any]) -> None:
    """Run an agent to its end, in a session that is created unless it `exists`."""
    runner = Runner(
        app_name=APP, agent=AGENTS[args["agent_module"]], session_service=service
    )
    user, session = args["user_id"], args["session_id"]
    if not args.get("exists"):
        await service.create_session(app_name=APP, user_id=user, session_id=session)
    async for _ in runner.run_async(
        user_id=user, session_id=session, new_message=message(args["message"])
    ):
        pass
