"""The demo does what it says, on a file that the user names."""

from __future__ import annotations

import re

from processes import python

KINDS = (
    "later, in 3 s",
    "at once",
    "priority queue",
    "inline config",
    "a failing model",
    "cron",
)


def test_the_demo_runs_every_kind_of_job_and_ends(tmp_path):
    file = tmp_path / "my.md"
    file.write_text(
        "# My own text\n\nIt has one sentence that says what it is about.\n"
    )

    with python("-m", "demo", str(file)) as demo:
        said, _ = demo.popen.communicate(timeout=55)

    assert demo.popen.returncode == 0
    assert "it works by rules, without any AI" in said
    rows = re.findall(r"^ +\d+  .+“.+” has \d+ words in 1?\d .*$", said, re.MULTILINE)
    for kind in KINDS:
        (row,) = [row for row in rows if kind in row]
        assert ("“My own text” has" in row) == (kind != "cron")
    (failing,) = [row for row in rows if "a failing model" in row]
    assert failing.split("agents")[1].split()[:2] == ["3", "5"]  # attempts, model calls
    assert "attempt 2 of 3 failed: the model is down" in said


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path):
    with python("-m", "demo", str(tmp_path / "gone.md")) as demo:
        said, _ = demo.popen.communicate(timeout=55)

    assert demo.popen.returncode == 1
    assert said == ""
