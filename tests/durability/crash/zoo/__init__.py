"""Agents of every kind: each module has one, as `KIND`."""

from __future__ import annotations

import importlib
import pkgutil

from .kind import Kind

__all__ = ["Kind", "kinds"]

_PARTS = ("kind", "tools")


def kinds() -> dict[str, Kind]:
    """Return all kinds by name."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name in _PARTS:
            continue
        kind = importlib.import_module(f"{__name__}.{module.name}").KIND
        found[kind.name] = kind
    return found
