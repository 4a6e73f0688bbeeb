"""docs/benchmarks.md: the table stands between two markers, prose around them."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN = "<!-- made by ./dev bench --write: begin -->"
END = "<!-- end -->"


def write(text: str, page: Path = PAGE) -> None:
    """Put text between the markers, and leave the rest as it is.

    Raises:
        ValueError: The page lacks the markers.
    """
    old = page.read_text("utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{str(page)!r} lacks the lines {BEGIN!r} and {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")
