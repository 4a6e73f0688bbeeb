"""A short selection of the crash harness; `./dev crash` runs all of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durability.crash import exceptions
from durability.crash.program import chosen_points
from durability.crash.rig import Rig, rig
from durability.crash.verdict import differing
from durability.crash.zoo import Kind, kinds

# ADK calls what it does itself deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TESTS = Path(__file__).parent.parent


@pytest.fixture
def place(server: str, tmp_path: Path) -> Iterator[Rig]:
    with rig(server, f"test_crash_{os.getpid()}", tmp_path) as made:
        yield made


@pytest.mark.parametrize("kind", kinds().values(), ids=kinds())
def test_a_failed_attempt_costs_only_the_step_in_flight(kind: Kind, place: Rig) -> None:
    reference = asyncio.run(exceptions.reference(kind, place, times=1))
    assert reference.halves == []

    numbers = chosen_points(kind, "exception", reference, 3)
    verdicts = asyncio.run(exceptions.crash(kind, place, reference, numbers))

    assert differing(verdicts) == ""


@pytest.mark.parametrize(
    "kind", ["agent_tool", "once", "transactional", "asks", "asks_inside"]
)
def test_a_killed_process_costs_only_the_step_in_flight(kind: str, server: str) -> None:
    assert harness(server, kind, "--mode", "SIGKILL", "--points", "3") == ""


def test_a_stopped_process_that_goes_on_changes_nothing(server: str) -> None:
    assert harness(server, "lone", "--mode", "zombie", "--points", "1") == ""


def harness(server: str, *arguments: str) -> str:
    """Run the harness; return what it says when there is a difference, else nothing.

    It forks, and so needs a process without threads.
    """
    done = subprocess.run(
        [sys.executable, "-m", "durability.crash", *arguments, "--dsn", server],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr
