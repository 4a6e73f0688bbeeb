"""The session service of an attempt: its own session is buffered, others are real."""

from __future__ import annotations

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events import Event, EventActions
from google.adk.sessions import InMemorySessionService, Session

from adk_oban._turn import Turn
from adk_oban._turn_sessions import TurnSessions

MINE = {"app_name": "app", "user_id": "u", "session_id": "s"}


@pytest.fixture
def turn() -> Turn:
    session = Session(app_name="app", user_id="u", id="s", state={"k": 0})
    return Turn(
        session=session,
        steps=[],
        completed=False,
        waits=False,
        marker=None,
        last_event_at=None,
    )


@pytest.fixture
def real() -> InMemorySessionService:
    return InMemorySessionService()


@pytest.fixture
def sessions(turn, real) -> TurnSessions:
    return TurnSessions(turn, real)


def event(**state: object) -> Event:
    return Event(author="a", actions=EventActions(state_delta=state))


async def test_what_is_appended_is_read_again_and_stays_with_the_turn(
    sessions, turn, real
):
    session = await sessions.get_session(**MINE)
    await sessions.append_event(session, event(k=1, **{"temp:k": 2}))
    again = await sessions.get_session(**MINE)
    assert again.state["k"] == 1
    assert [e.actions.state_delta for e in turn.added] == [{"k": 1}]
    assert await real.get_session(**MINE) is None


async def test_a_copy_of_the_session_is_the_same_session(sessions, turn):
    copy = turn.session.model_copy(deep=True)
    await sessions.append_event(copy, event(k=1))
    assert len(copy.events) == len(turn.session.events) == len(turn.added) == 1
    assert copy.state["k"] == turn.session.state["k"] == 1


async def test_partial_events_are_not_kept(sessions, turn):
    session = await sessions.get_session(**MINE)
    await sessions.append_event(session, Event(author="a", partial=True))
    assert (turn.added, session.events) == ([], [])


async def test_other_sessions_are_real(sessions, turn, real):
    other = await sessions.create_session(app_name="app", user_id="u", session_id="t")
    await sessions.append_event(other, event(k=1))
    named = {**MINE, "session_id": "t"}
    assert len((await real.get_session(**named)).events) == 1
    assert len((await sessions.get_session(**named)).events) == 1
    listed = await sessions.list_sessions(app_name="app", user_id="u")
    assert [session.id for session in listed.sessions] == ["t"]
    await sessions.delete_session(**named)
    assert await real.get_session(**named) is None
    assert turn.added == []


async def test_equal_ids_of_another_app_or_user_are_another_session(sessions, real):
    for other in ({"app_name": "other"}, {"user_id": "v"}):
        named = {**MINE, **other}
        assert await sessions.get_session(**named) is None
        await sessions.create_session(**named)
        assert await real.get_session(**named) is not None


async def test_its_own_session_can_be_neither_made_nor_deleted(sessions):
    with pytest.raises(AlreadyExistsError):
        await sessions.create_session(**MINE)
    with pytest.raises(ValueError, match="in use by the job that runs"):
        await sessions.delete_session(**MINE)
