"""Where the CPU goes: cProfile around the event loop, told by package."""

from __future__ import annotations

import cProfile
import io
import pstats
import re
from collections import defaultdict
from typing import Any

type Function = tuple[str, int, str]

_PACKAGE = re.compile(
    r"site-packages/(?:google/)?([^/.]+)|/(adk_oban|bench)/|/([^/]+)\.py$"
)
_STDLIB = re.compile(r"/lib/python3\.\d+/([^/.]+)")


class Profiler:
    """A profile of the thread that starts it."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile()

    def start(self) -> None:
        """Begin."""
        self._profile.enable()

    def stop(self) -> dict[str, Any]:
        """End, and return `packages` (own seconds of each) and the `functions` text."""
        self._profile.disable()
        stats: Any = pstats.Stats(self._profile)
        return {
            "packages": _by_package(stats.stats),
            "functions": _functions(stats),
        }


def _functions(stats: Any) -> str:
    """Return the table of the functions that cost most, called ones included."""
    out = io.StringIO()
    stats.stream = out
    stats.sort_stats("cumulative").print_stats(90)
    stats.sort_stats("tottime").print_stats(45)
    lines = out.getvalue().splitlines()
    return "\n".join(re.sub(r"/\S*/site-packages/", "", line) for line in lines)


def _by_package(stats: dict[Function, Any]) -> dict[str, float]:
    """Return own seconds by package; a builtin's are its callers'."""
    seconds: dict[str, float] = defaultdict(float)
    for function, (_, _, own, _, callers) in stats.items():
        name = _package(function)
        if name is not None or not callers:
            seconds[name or "builtins"] += own
            continue
        for caller, (_, _, share, _) in callers.items():
            seconds[_package(caller) or "builtins"] += share
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _package(function: Function) -> str | None:
    path = function[0]
    if path == "~":
        return None
    if "/src/adk_oban/" in path:
        return "adk_oban"
    if "site-packages" not in path and (found := _STDLIB.search(path)):
        return found[1]
    found = _PACKAGE.search(path)
    return path if found is None else next(name for name in found.groups() if name)
