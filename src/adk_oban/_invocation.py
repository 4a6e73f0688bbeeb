"""One ADK invocation: an agent answers a message in a session."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from google.adk.agents import BaseAgent
from google.adk.agents.run_config import RunConfig, ToolThreadPoolConfig
from google.adk.apps import App
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events import Event
from google.adk.runners import Runner
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.workflow import BaseNode
from google.genai import types

from ._meter import Meter
from ._services import Services
from .agents import Agent

_PROPER = (None, types.FinishReason.STOP)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an invocation ended with.

    Attributes:
        events: All complete events, in order.
        text: The text of the final response.
        output: The structured output, None without one.
        state: The session's state after it.
    """

    events: tuple[Event, ...]
    text: str
    output: Any
    state: dict[str, Any]

    @property
    def final(self) -> Event | None:
        """The event that ends the invocation."""
        return _final(self.events)

    @property
    def error_code(self) -> str | None:
        """Why the model ended without a proper answer; None when it gave one.

        ADK makes an error of an empty answer only: one that was cut off, by
        MAX_TOKENS for instance, has text and a reason to finish.
        """
        final = self.final
        if final is None or final.error_code:
            return None if final is None else final.error_code
        finish = final.finish_reason
        return None if finish in _PROPER else str(finish.value)


@dataclass(frozen=True, slots=True)
class Invocation:
    """An agent, a message and the session that it goes to.

    Attributes:
        agent: What runs.
        app_name: ADK's app name.
        user_id: ADK's user id.
        session_id: ADK's session id; the session is created when it is missing.
        message: The user's message.
        run_config: ADK's options of the run.
    """

    agent: Agent
    app_name: str
    user_id: str
    session_id: str
    message: types.Content
    run_config: RunConfig

    async def run(
        self, services: Services, meter: Meter, abort: asyncio.Event | None
    ) -> Answer:
        """Run it to its end.

        Args:
            services: Where sessions, artifacts and memory are.
            meter: Counts what it costs.
            abort: Ends the run at a safe point when it is set.
        """
        await self._ensure_session(services)
        runner = self.runner(services, meter)
        events: list[Event] = []
        async for event in runner.run_async(
            user_id=self.user_id,
            session_id=self.session_id,
            new_message=self.message,
            run_config=with_thread_pool(self.run_config, services),
            abort_signal=abort,
        ):
            if not event.partial:
                events.append(event)
        return await self._answer(services, events)

    def runner(self, services: Services, meter: Meter) -> Runner:
        """Return ADK's Runner for the agent, with the user's own App around it."""
        if isinstance(self.agent, App):
            plugins = [*self.agent.plugins, meter]
            app = self.agent.model_copy(update={"plugins": plugins})
        else:
            # As Runner itself does: App(...) would refuse names that it accepts.
            app = App.model_construct(
                name=self.app_name, root_agent=self.agent, plugins=[meter]
            )
        return Runner(
            app=app,
            app_name=self.app_name,
            session_service=services.sessions,
            artifact_service=services.artifacts,
            memory_service=services.memory,
            credential_service=services.credentials,
        )

    async def _ensure_session(self, services: Services) -> None:
        try:
            await services.sessions.create_session(
                app_name=self.app_name, user_id=self.user_id, session_id=self.session_id
            )
        except AlreadyExistsError:
            pass

    async def _answer(self, services: Services, events: list[Event]) -> Answer:
        session = await services.sessions.get_session(
            app_name=self.app_name,
            user_id=self.user_id,
            session_id=self.session_id,
            config=GetSessionConfig(num_recent_events=0),
        )
        final = _final(events)
        return Answer(
            events=tuple(events),
            text=text_of(final),
            output=None if final is None else self._output(final),
            state={} if session is None else session.state,
        )

    def _output(self, final: Event) -> Any:
        if final.output is not None:
            return final.output
        root = self.agent.root_agent if isinstance(self.agent, App) else self.agent
        if not has_output_schema(root, final.author):
            return None
        try:
            return json.loads(text_of(final))
        except ValueError:
            return None


def text_of(event: Event | None) -> str:
    """Return an event's text without the model's thoughts."""
    if event is None or event.content is None:
        return ""
    parts = event.content.parts or []
    return "".join(part.text or "" for part in parts if not part.thought)


def has_output_schema(root: BaseNode | None, author: str) -> bool:
    """Return whether the agent that wrote the answer has an output schema."""
    agent = root.find_agent(author) if isinstance(root, BaseAgent) else None
    return getattr(agent, "output_schema", None) is not None


def with_thread_pool(config: RunConfig, services: Services) -> RunConfig:
    """Return the options with a pool of threads for tools that block.

    A plain function that sleeps or computes would otherwise hold up all jobs of the
    process. One pool serves them all; it is as large as there are slots.
    """
    if config.tool_thread_pool_config is not None:
        return config
    pool = ToolThreadPoolConfig(max_workers=services.tool_threads)
    return config.model_copy(update={"tool_thread_pool_config": pool})


def _final(events: list[Event] | tuple[Event, ...]) -> Event | None:
    """The last event that answers; an error counts, a change of state does not."""
    for event in reversed(events):
        if event.error_code or event.output is not None:
            return event
        if event.is_final_response() and event.content and event.content.parts:
            return event
    return None
