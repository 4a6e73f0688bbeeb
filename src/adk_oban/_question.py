"""What an agent asks somebody outside, when its invocation pauses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from google.adk.events import Event
from google.adk.events._interrupts import extract_event_interrupt_ids
from google.genai import types
from pydantic_core import to_jsonable_python

_CONFIRM = "adk_request_confirmation"
_CREDENTIAL = "adk_request_credential"
_INPUT = "adk_request_input"


@dataclass(frozen=True, slots=True)
class Question:
    """A call that waits for an answer from outside.

    Attributes:
        call_id: ADK's id of the call, or the key of our step.
        call_name: Under which name ADK knows the call.
        kind: `"confirmation"`, `"long_running"`, `"input"`, `"credential"` or
            `"decision"`.
        agent: The agent that asks.
        tool: The tool that it is about; the node that asks for input.
        args: What the tool was called with.
        hint: What the person is told.
        payload: The args of ADK's own call, as they are.
        timeout: How many seconds there are to answer; None: as many as it takes.
        on_deadline: What then: `"reject"`, `"approve"` or `"cancel"`.
    """

    call_id: str
    call_name: str
    kind: str
    agent: str
    tool: str
    args: dict[str, Any]
    hint: str = ""
    payload: Any = None
    timeout: float | None = None
    on_deadline: str = "reject"

    def row(self, segment: int) -> dict[str, Any]:
        """Return it as a row of `adk_oban_approvals`."""
        return {**asdict(self), "segment": segment}


def questions(events: Iterable[Event]) -> tuple[Question, ...]:
    """Return what the agents asked in these events, which nobody has answered yet.

    Whatever means of ADK's they use, it is a call whose id is marked as long-running.
    """
    asked: dict[str, Question] = {}
    names: dict[str, str] = {}
    for event in events:
        waiting = extract_event_interrupt_ids(event)
        for call in event.get_function_calls():
            names[call.id or ""] = call.name or ""
            if call.id in waiting:
                asked[call.id] = _question(event, call, names)
    return tuple(asked.values())


def _question(
    event: Event, call: types.FunctionCall, names: dict[str, str]
) -> Question:
    name = call.name or ""
    args = to_jsonable_python(
        call.args or {}, bytes_mode="base64", serialize_unknown=True
    )
    kind, tool, shown, hint = "long_running", name, args, ""
    if name == _CONFIRM:
        original = args.get("originalFunctionCall") or {}
        kind, tool = "confirmation", original.get("name") or name
        shown = original.get("args") or {}
        hint = (args.get("toolConfirmation") or {}).get("hint") or ""
    elif name == _CREDENTIAL:
        kind, shown = "credential", {}
        tool = names.get(args.get("functionCallId") or "") or event.author
    elif name == _INPUT:
        kind, tool, shown, hint = _input(event, call.id or "", args)
    return Question(
        call_id=call.id or "",
        call_name=name,
        kind=kind,
        agent=event.author,
        tool=tool,
        args=shown,
        hint=hint,
        payload=args,
    )


def _input(
    event: Event, call_id: str, args: dict[str, Any]
) -> tuple[str, str, dict[str, Any], str]:
    """Read what a Workflow's node asks: anything, or whether it may run a tool."""
    payload = args.get("payload")
    hint = str(args.get("message") or "")
    if call_id.startswith("wf_tool_confirmation:") and isinstance(payload, dict):
        tool = str(payload.get("tool_name") or event.author)
        return "confirmation", tool, payload.get("args") or {}, hint
    path = event.node_info.path if event.node_info else None
    node = (path or "").rpartition("/")[2].partition("@")[0] or event.author
    shown = payload if isinstance(payload, dict) else {}
    return "input", node, shown, hint
