"""Seals the turn of an invocation that was stopped in the middle."""

from __future__ import annotations

from dataclasses import replace

from google.adk.events._abort_events import _build_abort_events, _is_abort_event

from ._turn import Turn


def sealed(turn: Turn, *, author: str) -> Turn:
    """Return the turn as it stands, each of its calls with an answer.

    ADK does so itself, unless what runs does not let itself be stopped.

    Args:
        turn: What the invocation has added; what it still adds is not in the result.
        author: Who says so when all calls have an answer: the root agent.
    """
    added = [*turn.added]
    if added and not any(_is_abort_event(event) for event in added):
        added += _build_abort_events(
            turn.session.events,
            invocation_id=added[-1].invocation_id,
            root_agent_name=author,
            branch=None,
        )
    return replace(turn, added=added)
