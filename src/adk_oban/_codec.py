"""The only place where ADK's objects become JSON for the database, and back.

PostgreSQL's jsonb holds neither NUL characters nor lone surrogates. What a model or a
tool said is kept all the same, with U+FFFD in their place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from google.adk.events import Event
from google.adk.sessions._session_util import extract_json_safe_state_delta
from pydantic_core import PydanticSerializationError

# An escape of its own: an even number of backslashes before it are text.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def encode_event(event: Event) -> str:
    """Return an event as the JSON text that ADK's own services store."""
    try:
        text = event.model_dump_json(exclude_none=True)
    except PydanticSerializationError:  # a lone surrogate, most often
        data = event.model_dump(mode="json", exclude_none=True)
        return encode(data)
    return _without_nul(text)


def decode_event(data: dict[str, Any]) -> Event:
    """Return the event that was stored."""
    return Event.model_validate(data)


def encode_state(state: Mapping[str, Any]) -> dict[str, str]:
    """Return a change of state as JSON texts, by scope: `app`, `user` and `session`.

    Keys lose their scope's prefix; `temp:` keys are left out; values that JSON cannot
    hold become strings, as in ADK's own services.
    """
    deltas = extract_json_safe_state_delta(dict(state))
    return {scope: encode(delta) for scope, delta in deltas.items()}


def merge_state(
    app: Mapping[str, Any], user: Mapping[str, Any], session: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the state as agents see it, with the scopes' prefixes."""
    return {
        **session,
        **{f"app:{key}": value for key, value in app.items()},
        **{f"user:{key}": value for key, value in user.items()},
    }


def encode(value: Any) -> str:
    """Return JSON text that jsonb takes."""
    return _without_nul(storable(json.dumps(value, ensure_ascii=False)))


def storable(text: str) -> str:
    """Return `text` with U+FFFD for what PostgreSQL's text cannot hold."""
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def _without_nul(text: str) -> str:
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text
