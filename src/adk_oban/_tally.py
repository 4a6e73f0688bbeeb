"""What an attempt was made of, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(slots=True)
class Tally:
    """What an attempt was made of.

    Attributes:
        steps: How many steps were `live`, `replayed`, or `changed`: live although one
            of the same place was recorded, with another request.
        model_calls: How many times a model was asked, answered by it or the journal.
        live_calls: How many of those a model answered.
        usage: Sums of all token counts.
        saved: Sums of the token counts that were not paid again.
    """

    steps: Counter[str] = field(default_factory=Counter)
    model_calls: int = 0
    live_calls: int = 0
    usage: Counter[str] = field(default_factory=Counter)
    saved: Counter[str] = field(default_factory=Counter)

    def parts(self) -> dict[str, Any]:
        """Return all of it as JSON, for a job that pauses."""
        return {
            "steps": dict(self.steps),
            "model_calls": self.model_calls,
            "live_calls": self.live_calls,
            "usage": dict(self.usage),
            "saved": dict(self.saved),
        }

    @classmethod
    def of(cls, parts: dict[str, Any]) -> Self:
        """Return what `parts` made JSON of."""
        return cls(
            steps=Counter(parts.get("steps", {})),
            model_calls=parts.get("model_calls", 0),
            live_calls=parts.get("live_calls", 0),
            usage=Counter(parts.get("usage", {})),
            saved=Counter(parts.get("saved", {})),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a result keeps of it."""
        return {
            **{name: self.steps[name] for name in ("live", "replayed", "changed")},
            "live_model_calls": self.live_calls,
            "saved": dict(self.saved),
        }
