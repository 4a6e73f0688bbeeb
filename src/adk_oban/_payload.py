"""What a step returned, as JSON text and back.

What JSON can hold comes back as it was, and so do bytes, pydantic's models (those of
google-genai and ADK too) and dataclasses. Other objects that pydantic knows how to
write (dates, sets, …) come back as the JSON that events have of them.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import is_dataclass
from typing import Any

from google.adk.events import Event
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic_core import (
    PydanticSerializationError,
    from_json,
    to_json,
    to_jsonable_python,
)

_CLASS, _VALUE, _BYTES, _ESCAPED = "$class", "value", "$bytes", "$escaped"
_TAGS = frozenset({_CLASS, _BYTES, _ESCAPED})


def pack(value: Any) -> str:
    """Return JSON text of a value.

    Raises:
        TypeError: It holds what cannot be written as JSON.
    """
    try:
        tagged = _tag(value)
        return to_json(tagged, inf_nan_mode="constants").decode()
    except RecursionError:
        raise TypeError("it holds itself, or is nested too deep") from None
    except (PydanticSerializationError, UnicodeError, ValueError) as error:
        try:  # a lone surrogate is a character that only this one can write
            return json.dumps(tagged, default=to_jsonable_python)
        except (TypeError, ValueError, RecursionError):
            raise TypeError(str(error)) from None


def unpack(text: str) -> Any:
    """Return the value of JSON text that `pack` wrote."""
    try:
        value = from_json(text)
    except ValueError:  # a lone surrogate, or very deep
        value = json.loads(text)
    return _untag(value)


def _tag(value: Any) -> Any:
    match value:
        case dict():
            tagged = {key: _tag(each) for key, each in value.items()}
            return {_ESCAPED: tagged} if _TAGS.intersection(value) else tagged
        case list() | tuple():
            return [_tag(each) for each in value]
        case bytes():
            return {_BYTES: base64.b64encode(value).decode()}
        case Event():
            # Its id and time are made anew, as by the call that a replay leaves out.
            dumped = value.model_dump(
                mode="json", exclude_none=True, exclude={"id", "timestamp"}
            )
            return {_CLASS: _name_of(Event), _VALUE: dumped}
        case BaseModel():
            dumped = value.model_dump(mode="json", exclude_none=True)
            return {_CLASS: _name_of(type(value)), _VALUE: dumped}
    if is_dataclass(value) and not isinstance(value, type):
        dumped = to_jsonable_python(value)
        return {_CLASS: _name_of(type(value)), _VALUE: dumped}
    return value


def _untag(value: Any) -> Any:
    match value:
        case {"$bytes": str(text)}:
            return base64.b64decode(text)
        case {"$escaped": dict(inner)}:
            return {key: _untag(each) for key, each in inner.items()}
        case {"$class": str(name), "value": inner}:
            return _object(name, inner)
        case dict():
            return {key: _untag(each) for key, each in value.items()}
        case list():
            return [_untag(each) for each in value]
    return value


def _name_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _object(name: str, value: Any) -> Any:
    """Make an object of a class that this process knows; nothing is imported for it."""
    module, _, path = name.partition(":")
    cls: Any = sys.modules.get(module)
    for part in path.split("."):
        cls = getattr(cls, part, None)
    if isinstance(cls, type) and (issubclass(cls, BaseModel) or is_dataclass(cls)):
        try:  # from JSON text, since only there bytes are read as base64
            return TypeAdapter(cls).validate_json(
                json.dumps(value), by_alias=True, by_name=True
            )
        except ValueError:  # it was another one when it was recorded
            pass
    return _Unknown.model_validate(value)


class _Unknown(BaseModel):
    """An object whose class is not known here: in events it looks the same."""

    model_config = ConfigDict(extra="allow")
