"""The demo does what it says, on a file that the user names."""

from __future__ import annotations

import re

import pytest

from processes import python

KINDS = (
    "later, in 2 s",
    "at once",
    "priority queue",
    "inline config",
    "a failing model",
    "cron",
)


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> str:
    """What the demo prints."""
    file = tmp_path_factory.mktemp("texts") / "my.md"
    file.write_text(
        "# My own text\n\nIt has one sentence that says what it is about.\n"
    )
    without_key = {"GOOGLE_API_KEY": ""}
    with python("-m", "demo", str(file), env=without_key) as demo:
        printed, _ = demo.popen.communicate(timeout=55)
    assert demo.popen.returncode == 0
    return printed


def test_the_demo_runs_every_kind_of_job(said):
    assert "it works by rules, without any AI" in said
    rows = re.findall(r"^ +\d+  .+“.+” has \d+ words in 1?\d .*$", said, re.MULTILINE)
    for kind in KINDS:
        (row,) = [row for row in rows if kind in row]
        assert ("“My own text” has" in row) == (kind != "cron")
    (failing,) = [row for row in rows if "a failing model" in row]
    # Attempts, model calls, and what the last attempt replayed: a model call, a tool.
    assert failing.split("agents")[1].split()[:3] == ["3", "3", "2"]
    assert "attempt 2 of 3 failed: the model is down" in said


def test_the_demo_kills_a_worker_and_another_finishes_its_job(said):
    (killed,) = re.findall(r"(worker-\d) is killed in the middle of the tool", said)
    (other,) = re.findall(r"(worker-\d) went on with it .* in attempt 2", said)
    assert {killed, other} == {"worker-1", "worker-2"}
    rows = re.findall(r"^\d  (?:model|tool) .*$", said, re.MULTILINE)
    fates = [("replayed" in row, "killed" in row) for row in rows]
    assert fates == [(True, False)] * 5 + [(False, True)] + [(False, False)] * 2
    assert re.search(r"^model calls +5 +8 +3 *$", said, re.MULTILINE)
    assert re.search(r"^tools run +4 +6 +2 *$", said, re.MULTILINE)
    assert "holds 9 events: user 1, examiner 7, writer 1." in said
    assert "One clean turn" in said


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path):
    with python("-m", "demo", str(tmp_path / "gone.md")) as demo:
        said, _ = demo.popen.communicate(timeout=55)

    assert demo.popen.returncode == 1
    assert said == ""
