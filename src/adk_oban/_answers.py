"""What people have answered: as ADK wants to be told, and for tools that ask again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from google.adk.events import Event
from google.adk.sessions import Session
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.genai import types

from ._verdict import RefusedError
from .approvals import Approval


class Answers:
    """The answers that a part of an invocation goes on with.

    Args:
        approvals: What was asked at the end of the part before, and in this one.
    """

    def __init__(self, approvals: Iterable[Approval] = ()) -> None:
        approvals = [*approvals]
        self.missing = [each for each in approvals if _is_missing(each)]
        answered = [e for e in approvals if e.state not in ("open", "withdrawn")]
        self._told = [each for each in answered if not each.replayed]
        # The last one counts: a tool that runs once may be asked about again.
        self._asked = {each.call_id: each for each in answered if each.replayed}
        self._confirmed = {_original(each): each for each in self._told}

    def events(self, session: Session) -> list[Event]:
        """Return what to tell ADK: an event for each branch that has asked.

        The last is the message that the invocation goes on with. ADK hears of one
        branch only in a message; agents that ran side by side in others find their
        answers before it.

        Raises:
            RefusedError: Somebody has taken a question out of the session.
        """
        branches: dict[str | None, list[types.Part]] = defaultdict(list)
        asked: dict[str | None, Event] = {}
        calls = {c.id: e for e in session.events for c in e.get_function_calls()}
        for approval in self._told:
            event = calls.get(approval.call_id)
            if event is None:
                raise RefusedError(
                    f"session {session.id!r} has lost what agent {approval.agent!r} "
                    f"asked in it (approval {approval.id}): the job cannot go on there"
                )
            branches[event.branch].append(_part(approval))
            asked[event.branch] = event
        return [_event(parts, asked[at]) for at, parts in branches.items()]

    def for_call(self, function_call_id: str | None) -> Approval | None:
        """Return the answer to whether a call of ADK's may run."""
        return self._confirmed.get(function_call_id or "")

    def confirm(self, function_call_id: str | None, approval: Approval) -> None:
        """Note that an answer is about a call of ADK's."""
        self._confirmed[function_call_id or ""] = approval

    def for_step(self, call_id: str) -> Approval | None:
        """Return the answer to what a step asked from the middle of its agent's run."""
        return self._asked.get(call_id)


def _is_missing(approval: Approval) -> bool:
    """Return whether an answer is yet to come; asked again is what is replayed."""
    withdrawn = approval.state == "withdrawn" and not approval.replayed
    return approval.state == "open" or withdrawn


def confirmation(approval: Approval) -> ToolConfirmation:
    """Return an answer as a tool finds it in its context."""
    return ToolConfirmation.model_validate(
        {"hint": approval.hint, **(approval.response or {"confirmed": False})}
    )


def _event(parts: list[types.Part], asked: Event) -> Event:
    return Event(
        author="user",
        content=types.Content(role="user", parts=parts),
        invocation_id=asked.invocation_id,
        branch=asked.branch,
        isolation_scope=asked.isolation_scope,
    )


def _part(approval: Approval) -> types.Part:
    response = types.FunctionResponse(
        id=approval.call_id, name=approval.call_name, response=approval.response
    )
    return types.Part(function_response=response)


def _original(approval: Approval) -> str:
    payload: Any = approval.payload
    original = payload.get("originalFunctionCall") if isinstance(payload, dict) else {}
    return str((original or {}).get("id") or approval.call_id)
