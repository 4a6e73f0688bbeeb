"""What a model says does not steer the terminal on which people approve."""

from __future__ import annotations

import pytest

from adk_oban.cli._terminal import visible


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("pay 3\x1b[8m000", "pay 3\\x1b[8m000"),
        ("\x9b2K", "\\x9b2K"),
        ("a\rb", "a\\rb"),
        ("a\u202eb", "a\\u202eb"),
        ("Grüße\n\t你好", "Grüße\n\t你好"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(said, shown):
    assert visible(said) == shown
