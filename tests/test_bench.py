from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from bench import page
from bench.soak.followers import Amiss
from bench.table import Row, render

from processes import ROOT


async def bench(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_a_section_has_its_row_and_its_raw_figures(tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    status, said = await bench("noop", "--quick", "--json", str(raw))
    assert status == 0, said
    assert "| executing no-op jobs at 50 slots" in said
    figures = json.loads(raw.read_text())
    assert figures["about"]["PostgreSQL"].endswith("fsync on")
    assert set(figures["noop"]) == {"stock, no-op", "ours, no-op"}
    for (round_,) in figures["noop"].values():
        assert round_["jobs_per_second"] > 0
        assert round_["cpu_ms"] > 0


@pytest.mark.timeout(120)
async def test_a_short_soak_finds_nothing(tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    status, said = await bench("soak", "--quick", "--json", str(raw))
    assert status == 0, said
    found = json.loads(raw.read_text())["soak"]
    assert found["failures"] == []
    assert found["right"] == found["plan"]["jobs"]
    assert found["seen"] == found["there"] > 0
    assert found["kills"] > 0


@pytest.mark.parametrize(
    ("seen", "amiss"),
    [
        ("abc", Amiss(gaps=0, repeats=0, disorder=0)),
        ("ac", Amiss(gaps=1, repeats=0, disorder=0)),
        ("abbc", Amiss(gaps=0, repeats=1, disorder=0)),
        ("acb", Amiss(gaps=0, repeats=0, disorder=1)),
        ("abcd", Amiss(gaps=0, repeats=1, disorder=0)),
        ("", Amiss(gaps=3, repeats=0, disorder=0)),
    ],
)
def test_a_follower_that_saw_something_else_is_found(seen: str, amiss: Amiss) -> None:
    assert Amiss.of(seen, "abc") == amiss


async def test_an_unknown_section_is_refused_by_name() -> None:
    status, said = await bench("nothing")
    assert status == 2
    assert "'nothing'" in said


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (
            Row.compared("a", 100, 500, "jobs/s", least=5),
            ["a", "100 jobs/s", "500 jobs/s", "5.00", "5 or more", "yes"],
        ),
        (
            Row.compared("b", 2, 4, "ms", most=1.6),
            ["b", "2.00 ms", "4.00 ms", "2.00", "1.6 or less", "**no**"],
        ),
        (
            Row.alone("c", "300 s", 1.5, "s", most=2),
            ["c", "300 s", "1.50 s", "", "2 s or less", "yes"],
        ),
        (
            Row.alone("d", "none", None, "s", most=2),
            ["d", "none", "not possible", "", "2 s or less", "**no**"],
        ),
        (
            Row.alone("e", "1 ms", 1, "ms"),
            ["e", "1 ms", "1.00 ms", "", "", ""],
        ),
    ],
)
def test_a_row_tells_whether_its_goal_is_met(row: Row, cells: list[str]) -> None:
    assert row.cells() == cells
    assert render([row]).count("\n") == 2


def test_what_is_written_by_hand_stays_on_the_page(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text(f"before\n\n{page.BEGIN}\n\nold\n\n{page.END}\n\nafter\n")
    page.write("new", copy)
    page.write("newer", copy)
    assert copy.read_text() == (
        f"before\n\n{page.BEGIN}\n\nnewer\n\n{page.END}\n\nafter\n"
    )


def test_the_page_has_the_markers() -> None:
    text = page.PAGE.read_text("utf-8")
    assert text.index(page.BEGIN) < text.index(page.END)
