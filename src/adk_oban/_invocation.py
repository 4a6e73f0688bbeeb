"""One ADK invocation: an agent answers a message in a session."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from google.adk.agents import BaseAgent
from google.adk.agents.run_config import RunConfig, ToolThreadPoolConfig
from google.adk.apps import App
from google.adk.events import Event
from google.adk.runners import Runner
from google.adk.sessions import BaseSessionService
from google.adk.workflow import BaseNode
from google.genai import types

from ._answers import Answers
from ._durable_pause import RESUMABLE
from ._question import Question, questions
from ._services import Services
from ._turn import Turn
from ._turn_sessions import TurnSessions
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
        questions: The calls that wait for an answer from outside.
        resumable: Whether it has noted where to go on after a pause.
        by_graph: Whether a Workflow made it, which may end without an answer: its nodes
            need not return anything.
    """

    events: tuple[Event, ...]
    text: str
    output: Any
    state: dict[str, Any]
    questions: tuple[Question, ...] = ()
    resumable: bool = False
    by_graph: bool = False

    @property
    def is_outcome(self) -> bool:
        """Whether the agent came to an end, instead of merely stopping.

        ADK's generators end without a word when they find nothing to go on with: no
        event at all, or a call or its result that nobody answered.
        """
        if self.by_graph or self.questions or self.final is not None:
            return True
        last = self.events[-1] if self.events else None
        if last is None:
            return False
        return not (last.get_function_calls() or last.get_function_responses())

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
        answers: What it goes on with instead, after a pause.
        run_config: ADK's options of the run.
        resumable: Whether ADK notes where agents are, to go on after a pause.
    """

    agent: Agent
    app_name: str
    user_id: str
    session_id: str
    message: types.Content
    answers: Answers
    run_config: RunConfig
    resumable: bool = False

    async def run(
        self, turn: Turn, services: Services, abort: asyncio.Event | None
    ) -> Answer:
        """Run it to its end.

        Args:
            turn: The session as it was read; what the invocation adds stays with it.
            services: Where artifacts and memory are.
            abort: Ends the run at a safe point when it is set.
        """
        sessions = TurnSessions(turn, services.sessions)
        events: list[Event] = []
        async for event in self.runner(sessions, services).run_async(
            user_id=self.user_id,
            session_id=self.session_id,
            new_message=await self._message(turn, sessions),
            run_config=with_thread_pool(self.run_config, services),
            abort_signal=abort,
        ):
            if turn.stream is not None:
                turn.stream.show(event)
            if not event.partial:
                events.append(event)
        return self._answer(turn, events)

    async def _message(self, turn: Turn, sessions: TurnSessions) -> types.Content:
        told = self.answers.events(turn.session)
        for event in told[:-1]:
            await sessions.append_event(turn.session, event)
        return (told[-1].content if told else None) or self.message

    def runner(self, sessions: BaseSessionService, services: Services) -> Runner:
        """Return ADK's Runner for the agent, with the user's own App around it."""
        return Runner(
            app=self._app(),
            app_name=self.app_name,
            session_service=sessions,
            artifact_service=services.artifacts,
            memory_service=services.memory,
            credential_service=services.credentials,
        )

    def _app(self) -> App:
        app = _app(self.agent, self.app_name)
        if not self.resumable or is_resumable(app):
            return app
        return app.model_copy(update={"resumability_config": RESUMABLE})

    def _answer(self, turn: Turn, events: list[Event]) -> Answer:
        final = _final(events)
        state = turn.session.state
        return Answer(
            events=tuple(events),
            text=text_of(final),
            output=None if final is None else self._output(final),
            state={k: v for k, v in state.items() if not k.startswith("temp:")},
            questions=questions(events),
            resumable=self.resumable or is_resumable(_app(self.agent, "")),
            by_graph=not isinstance(_app(self.agent, "").root_agent, BaseAgent),
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


async def close_agent(agent: Agent, services: Services) -> None:
    """Close what an agent's toolsets and plugins hold, once nothing runs it."""
    app = _app(agent, "adk_oban")
    await Runner(app=app, session_service=services.sessions).close()


def _app(agent: Agent, name: str) -> App:
    if isinstance(agent, App):
        return agent
    # As Runner itself does: App(...) would refuse names that it accepts.
    return App.model_construct(name=name, root_agent=agent, plugins=[])


def is_resumable(app: App) -> bool:
    """Return whether an app says itself that its invocations may pause."""
    config = app.resumability_config
    return config is not None and config.is_resumable


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
