"""What models and agents say, as a terminal may show it."""

from __future__ import annotations

import re

import click

# Control characters but for tabs and line feeds, and those that turn text around: with
# them, a model could disguise what people approve.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def visible(text: str) -> str:
    r"""Return a text with what a terminal would obey as escapes, such as `\x1b`."""
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)


def say(text: str = "", *, nl: bool = True) -> None:
    """Print a text for people."""
    click.echo(visible(text), nl=nl)
