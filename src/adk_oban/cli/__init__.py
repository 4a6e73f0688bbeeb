"""The command line: each command parses, builds a config, and makes one call."""

from __future__ import annotations

import sys

import click

from ._decide import decide
from ._jobs import enqueue, jobs, show
from ._migrate import migrate
from ._schedule import schedule
from ._work import postgres, work

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="adk-oban")
def main() -> None:
    """Google ADK agents as durable background jobs on PostgreSQL.

    Without a DSN, commands use an embedded PostgreSQL whose data are kept.
    """
    # As in python -m: agents are modules of the project one stands in.
    if "" not in sys.path:
        sys.path.insert(0, "")


for _command in (migrate, work, enqueue, jobs, show, decide, schedule, postgres):
    main.add_command(_command)
