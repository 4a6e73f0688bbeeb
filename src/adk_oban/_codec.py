"""The only place where ADK's objects become JSON for the database, and back.

PostgreSQL's jsonb holds neither NUL characters nor lone surrogates, and JSON no NaN
and no infinity. What a model or a tool said is kept all the same, with U+FFFD or null
in their place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.adk.events import Event
from google.adk.sessions._session_util import (
    extract_json_safe_state_delta,
    extract_state_delta,
)
from pydantic_core import (
    PydanticSerializationError,
    from_json,
    to_json,
    to_jsonable_python,
)

# An escape of its own: an even number of backslashes before it are text.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def encode_event(event: Event) -> str:
    """Return an event as the JSON text that ADK's own services store."""
    try:
        text = event.model_dump_json(exclude_none=True)
    except (PydanticSerializationError, UnicodeError):  # a lone surrogate, most often
        return encode(_plain(event))
    return _without_nul(text)


def decode_event(
    text: str | None, id: str, invocation_id: str, timestamp: datetime
) -> Event:
    """Return the event of a row, as ADK's own service does.

    Args:
        text: The event as JSON.
        id: The row's id, which counts.
        invocation_id: The row's, which counts.
        timestamp: The row's, in UTC without saying so; the event's own counts.
    """
    data = decode(text or "{}")
    data["id"] = id
    data["invocation_id"] = invocation_id
    if data.get("timestamp") is None:
        data["timestamp"] = timestamp.replace(tzinfo=UTC).timestamp()
    return Event.model_validate(data)


def encode_state(state: Mapping[str, Any]) -> dict[str, str]:
    """Return a change of state as JSON texts, by scope: `app`, `user` and `session`.

    Keys lose their scope's prefix; `temp:` keys are left out; values that JSON cannot
    hold become strings, as in ADK's own services.
    """
    if not state:
        return {"app": "{}", "user": "{}", "session": "{}"}
    try:
        return {
            scope: _without_nul(to_json(delta, inf_nan_mode="null").decode())
            for scope, delta in extract_state_delta(dict(state)).items()
        }
    except ValueError:  # a function or the like, bytes, or a lone surrogate
        deltas = extract_json_safe_state_delta(_plain(dict(state)))
        return {scope: encode(delta) for scope, delta in deltas.items()}


def _plain(value: Any) -> Any:
    try:
        return to_jsonable_python(value, exclude_none=isinstance(value, Event))
    except (PydanticSerializationError, UnicodeError):
        # What JSON cannot hold as it is: bytes as base64, a function as its repr.
        dumped = (
            value.model_dump(exclude_none=True) if isinstance(value, Event) else value
        )
        return to_jsonable_python(dumped, bytes_mode="base64", serialize_unknown=True)


def merge_state(
    app: Mapping[str, Any] | None,
    user: Mapping[str, Any] | None,
    session: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the state as agents see it, with the scopes' prefixes."""
    return {
        **session,
        **{f"app:{key}": value for key, value in (app or {}).items()},
        **{f"user:{key}": value for key, value in (user or {}).items()},
    }


def encode(value: Any) -> str:
    """Return JSON text that jsonb takes, of a value that is nearly JSON."""
    text = storable(json.dumps(value, ensure_ascii=False))
    return _without_nul(to_json(json.loads(text), inf_nan_mode="null").decode())


def decode(text: str) -> Any:
    """Return what JSON text says."""
    try:
        return from_json(text)
    except ValueError:  # nested deeper than the fast one goes
        return json.loads(text)


def storable(text: str) -> str:
    """Return `text` with U+FFFD for what PostgreSQL's text cannot hold."""
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def _without_nul(text: str) -> str:
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text
