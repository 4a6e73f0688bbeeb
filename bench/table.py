"""The table: what is compared, with which goal, and whether it is met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_HEADS = ("what", "reference", "ours", "ratio", "goal", "met")


@dataclass(frozen=True, slots=True)
class Row:
    """A row.

    Attributes:
        what: What was measured.
        reference: The other's figure, as text.
        ours: Our figure; None when it cannot be measured yet.
        unit: Its unit.
        ratio: Ours to the reference.
        goal: The goal, as text; empty for what has none.
        met: Whether it is met; None for what has no goal.
    """

    what: str
    reference: str
    ours: float | None
    unit: str
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None

    @classmethod
    def compared(
        cls,
        what: str,
        reference: float,
        ours: float,
        unit: str,
        *,
        least: float | None = None,
        most: float | None = None,
        note: str = "",
    ) -> Row:
        """Compare ours with a reference; the goal is a ratio of `least` or `most`."""
        ratio = ours / reference if reference else None
        goal, met = _goal(ratio, "", least=least, most=most)
        return cls(
            what, f"{number(reference)} {unit}{note}", ours, unit, ratio, goal, met
        )

    @classmethod
    def alone(
        cls,
        what: str,
        reference: str,
        ours: float | None,
        unit: str,
        *,
        least: float | None = None,
        most: float | None = None,
    ) -> Row:
        """Compare ours with a goal in its own unit."""
        goal, met = _goal(ours, f" {unit}", least=least, most=most)
        return cls(what, reference, ours, unit, None, goal, met)

    def cells(self) -> list[str]:
        """Return the texts of the row."""
        ours = (
            "not possible" if self.ours is None else f"{number(self.ours)} {self.unit}"
        )
        ratio = "" if self.ratio is None else number(self.ratio)
        met = {True: "yes", False: "**no**", None: ""}[self.met]
        return [self.what, self.reference, ours, ratio, self.goal, met]


def render(rows: Iterable[Row]) -> str:
    """Return the table in Markdown, its columns aligned."""
    lines = [list(_HEADS), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    lines.insert(1, ["-" * width for width in widths])
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def number(value: float) -> str:
    """Return a figure with as many digits as it is worth."""
    if not value:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _goal(
    value: float | None, unit: str, *, least: float | None, most: float | None
) -> tuple[str, bool | None]:
    if least is not None:
        return f"{least:g}{unit} or more", value is not None and value >= least
    if most is not None:
        return f"{most:g}{unit} or less", value is not None and value <= most
    return "", None
