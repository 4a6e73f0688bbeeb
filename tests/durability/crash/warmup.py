"""Run each agent once in memory, so that forked processes need not import anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from google.adk.apps import App
from google.adk.runners import InMemoryRunner
from google.genai import types

from .zoo import Kind


def warm_up(kinds: Iterable[Kind]) -> None:
    """Run them; no thread is left, since a plain Runner has none for tools."""
    asyncio.run(_run(kinds))


async def _run(kinds: Iterable[Kind]) -> None:
    for kind in kinds:
        agent = kind.make()
        app = agent if isinstance(agent, App) else App(name="zoo", root_agent=agent)
        runner = InMemoryRunner(app=app)
        session = await runner.session_service.create_session(
            app_name=app.name, user_id="u"
        )
        message = types.Content(role="user", parts=[types.Part(text="Go.")])
        run = runner.run_async(user_id="u", session_id=session.id, new_message=message)
        with suppress(RuntimeError):  # a tool that needs a job
            async for _ in run:
                pass
