"""Errors that an agent's callbacks made an answer of, as JSON and back.

Such an error is part of what happened: a replay must meet it again, without doing again
what raised it.
"""

from __future__ import annotations

import sys
from typing import Any

from ._payload import pack, unpack


def encode_error(error: Exception) -> str:
    """Return an error as JSON: its class, its arguments, and what it says."""
    cls = type(error)
    said = {
        "module": cls.__module__,
        "name": cls.__qualname__,
        "message": str(error),
    }
    try:
        return pack({"raised": {**said, "args": list(error.args)}})
    except TypeError:
        return pack({"raised": {**said, "args": None}})


def decode_error(payload: str) -> Exception | None:
    """Return the error that was recorded; None when it is not an error.

    It is of the same class if this process knows that; nothing is imported for it. What
    the class's constructor sets beside its arguments is not there.
    """
    recorded = unpack(payload)
    said = recorded.get("raised") if isinstance(recorded, dict) else None
    return None if said is None else _error(said)


def is_behind(error: BaseException, outcome: BaseException) -> bool:
    """Return whether an error is, or led to, the one that an attempt ended with."""
    led: list[BaseException] = [outcome]
    for each in led:  # which grows; they may be each other's cause
        inner = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        links = (*inner, each.__cause__, each.__context__)
        led += [e for e in links if e is not None and all(e is not o for o in led)]
    return any(error is each for each in led)


def _error(said: dict[str, Any]) -> Exception:
    message = str(said["message"])
    cls: Any = sys.modules.get(said["module"])
    for name in str(said["name"]).split("."):
        cls = getattr(cls, name, None)
    if isinstance(cls, type) and issubclass(cls, Exception):
        args = [message] if said["args"] is None else said["args"]
        error = cls.__new__(cls, *args)
        error.args = tuple(args)
        try:
            if str(error) == message:
                return error
        except Exception:  # noqa: S110  (it wants what only its constructor sets)
            pass
    return RuntimeError(f"{said['name']}: {message}")
