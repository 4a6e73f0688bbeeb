"""What the agents really did: a file that outlives the processes that append to it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .points import points


@dataclass(frozen=True, slots=True)
class Effect:
    """One line: a body has begun or ended.

    Attributes:
        kind: `"model"`, `"tool"` or `"node"`.
        name: Whose body it was.
        detail: What it was given.
        ended: Whether it ended.
        pid: The process it ran in.
    """

    kind: str
    name: str
    detail: str
    ended: bool
    pid: int

    @property
    def what(self) -> tuple[str, str, str]:
        """What makes it the same as another."""
        return self.kind, self.name, self.detail


class Effects:
    """The file."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def open(self, path: Path) -> None:
        """Append to this file from now on."""
        self._path = path

    def clear(self) -> None:
        """Begin anew."""
        assert self._path is not None
        self._path.write_text("")

    def read(self) -> list[Effect]:
        """Return all lines."""
        assert self._path is not None
        lines = self._path.read_text().splitlines()
        return [Effect(**json.loads(line)) for line in lines]

    def begun(self) -> Counter[tuple[str, str, str]]:
        """Return how often each body has begun."""
        return Counter(effect.what for effect in self.read() if not effect.ended)

    @contextmanager
    def body(self, kind: str, name: str, detail: Any = None) -> Iterator[None]:
        """A body, with a crash point before it and one after it."""
        points.reach(f"before {kind} {name}")
        self._append(kind, name, detail, ended=False)
        yield
        self._append(kind, name, detail, ended=True)
        points.reach(f"after {kind} {name}")

    def _append(self, kind: str, name: str, detail: Any, *, ended: bool) -> None:
        if self._path is None:  # a warm-up
            return
        line = Effect(
            kind, name, json.dumps(detail, sort_keys=True), ended, os.getpid()
        )
        fields = {key: getattr(line, key) for key in Effect.__slots__}
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, json.dumps(fields).encode() + b"\n")
        finally:
            os.close(handle)


effects = Effects()
"""Those of this process and its children."""
