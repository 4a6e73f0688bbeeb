"""The session service of one attempt: reads what was loaded, keeps what is added."""

from __future__ import annotations

from typing import Any

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events import Event
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.base_session_service import (
    GetSessionConfig,
    ListSessionsResponse,
)

from ._turn import Turn


class TurnSessions(BaseSessionService):
    """Keeps the events of one invocation with its turn; all else is the real service's.

    Args:
        turn: The turn.
        real: Where all other sessions are.
    """

    def __init__(self, turn: Turn, real: BaseSessionService) -> None:
        self._turn = turn
        self._real = real

    async def append_event(self, session: Session, event: Event) -> Event:
        """Add an event to the turn; partial ones are passed on and not kept."""
        if not self._is_mine(session.app_name, session.user_id, session.id):
            return await self._real.append_event(session, event)
        if event.partial:
            return event
        event = await super().append_event(session, event)
        if session is not self._turn.session:
            await super().append_event(self._turn.session, event)
        self._turn.added.append(event)
        return event

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """Return the turn's own session as it is by now, or another one."""
        if self._is_mine(app_name, user_id, session_id):
            return self._turn.session
        return await self._real.get_session(
            app_name=app_name, user_id=user_id, session_id=session_id, config=config
        )

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create another session, at once."""
        if session_id and self._is_mine(app_name, user_id, session_id):
            raise AlreadyExistsError(f"Session with id {session_id} already exists.")
        return await self._real.create_session(
            app_name=app_name, user_id=user_id, state=state, session_id=session_id
        )

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """Return the sessions as they are in the database."""
        return await self._real.list_sessions(app_name=app_name, user_id=user_id)

    async def delete_session(
        self, *, app_name: str, user_id: str, session_id: str
    ) -> None:
        """Delete another session, at once.

        Raises:
            ValueError: It is the one that the job runs in.
        """
        if self._is_mine(app_name, user_id, session_id):
            raise ValueError(f"session {session_id!r} is in use by the job that runs")
        await self._real.delete_session(
            app_name=app_name, user_id=user_id, session_id=session_id
        )

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the user's state as it is in the database."""
        return await self._real.get_user_state(app_name=app_name, user_id=user_id)

    def _is_mine(self, app_name: str, user_id: str, session_id: str) -> bool:
        mine = self._turn.session
        return (app_name, user_id, session_id) == (
            mine.app_name,
            mine.user_id,
            mine.id,
        )
