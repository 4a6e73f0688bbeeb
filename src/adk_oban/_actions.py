"""What a tool or node did through its context: state, transfers, questions."""

from __future__ import annotations

import logging
from typing import Any

from google.adk.agents.context import Context
from google.adk.events import EventActions
from pydantic_core import to_jsonable_python

from ._payload import pack

logger = logging.getLogger(__name__)

# Where ADK files things under the id of the call, which is another one on a replay.
_BY_CALL = ("requested_auth_configs", "requested_tool_confirmations")
_STATE = "state_delta"

type Changes = dict[str, Any]
"""`actions` (fields of ADK's EventActions), `call`, `route`, `output`: for `pack`."""


def snapshot(context: Context) -> Changes:
    """Return what a context holds so far; values of the state as they are packed."""
    actions = context.actions
    held: Changes = {
        name: to_jsonable_python(value, serialize_unknown=True)
        for name in EventActions.model_fields
        if name != _STATE and (value := getattr(actions, name)) not in (None, {})
    }
    state = {key: _packed(value) for key, value in actions.state_delta.items()}
    return {
        "actions": held,
        "state": state,
        "route": context.route,
        "output": context.output,
    }


def changes(context: Context, before: Changes) -> Changes:
    """Return what has come to a context since the snapshot.

    Values of the state that cannot be recorded are an error of `pack`'s later on, but
    for those that live only as long as the invocation (`temp:`): they are left out.
    """
    after = snapshot(context)
    actions: Changes = {
        name: _added(before["actions"].get(name), value)
        for name, value in after["actions"].items()
        if before["actions"].get(name) != value
    }
    delta = context.actions.state_delta
    state = {
        key: delta[key]
        for key, packed in after["state"].items()
        if packed != before["state"].get(key, "") and _recordable(key, packed)
    }
    if state:
        actions[_STATE] = state
    found: Changes = {"actions": actions} if actions else {}
    if actions and context.function_call_id:
        found["call"] = context.function_call_id
    for name in ("route", "output"):
        if after[name] != before[name]:
            found[name] = after[name]
    return found


def apply(context: Context, found: Changes) -> None:
    """Make the changes to a context anew, as the tool or node itself would."""
    actions = dict(found.get("actions", {}))
    if state := actions.pop(_STATE, None):
        context.state.update(state)
    recorded = EventActions.model_validate(actions)
    for name in recorded.model_fields_set:
        value, there = getattr(recorded, name), getattr(context.actions, name)
        if name in _BY_CALL:
            mine, its = context.function_call_id, found.get("call")
            there.update({mine if k == its else k: v for k, v in value.items()})
        elif isinstance(value, dict) and isinstance(there, dict):
            there.update(value)
        else:
            setattr(context.actions, name, value)
    if "route" in found:
        context.route = found["route"]
    if "output" in found:
        context.output = found["output"]


def _packed(value: Any) -> str | None:
    try:
        return pack(value)
    except TypeError:
        return None


def _recordable(key: str, packed: str | None) -> bool:
    if packed is None and key.startswith("temp:"):
        logger.warning("state %r cannot be recorded: a replay is without it", key)
        return False
    return True


def _added(before: Any, after: Any) -> Any:
    if isinstance(before, dict) and isinstance(after, dict):
        missing = object()
        return {k: v for k, v in after.items() if before.get(k, missing) != v}
    return after
