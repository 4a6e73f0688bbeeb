"""The bare in-memory run of ADK: a Runner in a loop, and nothing else."""

from __future__ import annotations

import sys
import time
from typing import Any

from google.adk.events import Event
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService

from bench.agents import AGENTS, APP, message
from bench.usage import Usage

_TRIED_EACH_RUN = "google.adk.agents.remote_a2a_agent"


async def run(
    agent: str, count: int, events: int = 0, *, warm: int = 10, lean: bool = False
) -> dict[str, Any]:
    """Run an agent so many times, each in a session of its own.

    Args:
        agent: Which.
        count: How many times.
        events: How many events each session has before.
        warm: How many runs warm it up.
        lean: Whether to spare ADK an import that fails in each run where a2a-sdk is
            not installed, as our workers do.

    Returns:
        `elapsed` and `cpu` in seconds, and `durations` of each run in seconds.
    """
    if lean:
        sys.modules.setdefault(_TRIED_EACH_RUN, None)  # type: ignore[arg-type]  # None means: not there
    service = InMemorySessionService()
    runner = Runner(app_name=APP, agent=AGENTS[agent], session_service=service)
    told = message("Hello, what is it?")
    names = [f"session-{number}" for number in range(count + warm)]
    history = [turn_of(number) for number in range(events)]
    for name in names if events else []:
        await _fill(service, name, history)
    durations: list[float] = []
    before = Usage.now()
    for number, name in enumerate(names):
        if number == warm:
            before = Usage.now()
        began = time.perf_counter()
        if not events:
            await service.create_session(app_name=APP, user_id="user", session_id=name)
        async for _ in runner.run_async(
            user_id="user", session_id=name, new_message=told
        ):
            pass
        durations.append(time.perf_counter() - began)
    after = Usage.now()
    return {
        "elapsed": after.at - before.at,
        "cpu": after.cpu - before.cpu,
        "durations": durations[warm:],
    }


def turn_of(number: int) -> Event:
    """Return an event of a long conversation: the user's and the model's by turns."""
    author = "user" if number % 2 == 0 else "one_turn"
    text = f"Line {number} of a conversation that has gone on for quite some time now."
    content = message(text)
    content.role = "user" if author == "user" else "model"
    return Event(author=author, content=content, invocation_id=f"old-{number // 2}")


async def _fill(
    service: InMemorySessionService, name: str, history: list[Event]
) -> None:
    await service.create_session(app_name=APP, user_id="user", session_id=name)
    session = service.sessions[APP]["user"][name]
    session.events.extend(history)
