"""Puts something around a method of a class and its subclasses, future ones too.

The agents, models and tools are the user's objects and stay as they are; what is around
their methods lets a call through untouched unless it happens in a job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MARK = "__adk_oban__"

type Around = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes a method of a method."""


def intercept(base: type, name: str, around: Around) -> None:
    """Put `around` around `name` in a class and all its subclasses."""
    classes: list[type] = [base]
    for cls in classes:
        _wrap(cls, name, around)
        below: list[type] = cls.__subclasses__()
        classes += [each for each in below if each not in classes]
        if cls is base or "__init_subclass__" in cls.__dict__:
            _wrap_future(cls, name, around)


def _wrap(cls: type, name: str, around: Around) -> None:
    # As the class has it, be it from a mixin that knows nothing of the base.
    found = next((c.__dict__[name] for c in cls.__mro__ if name in c.__dict__), None)
    if found is None or getattr(found, "__isabstractmethod__", False):
        return
    if not getattr(found, _MARK, False):
        wrapped = around(found)
        setattr(wrapped, _MARK, True)
        setattr(cls, name, wrapped)


def _wrap_future(base: type, name: str, around: Around) -> None:
    own = base.__dict__.get("__init_subclass__")
    parent: Any = super

    def __init_subclass__(cls: Any, /, **options: Any) -> None:
        if own is None:
            parent(base, cls).__init_subclass__(**options)
        else:
            own.__func__(cls, **options)
        _wrap(cls, name, around)
        if "__init_subclass__" in cls.__dict__:  # which may not ask its parents
            _wrap_future(cls, name, around)

    setattr(base, "__init_subclass__", classmethod(__init_subclass__))  # noqa: B010  (mypy knows no assignment to it)
