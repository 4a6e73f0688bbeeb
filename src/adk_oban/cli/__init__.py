"""The command line: each command parses, builds a config, and makes one call."""

from __future__ import annotations

import sys

import click

from ._approvals import approvals, approve, reject, respond
from ._cancel import cancel
from ._decide import decide
from ._follow import follow
from ._jobs import enqueue, jobs, show
from ._migrate import migrate
from ._schedule import schedule
from ._steer import fork, retry
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


for _command in (
    migrate,
    work,
    enqueue,
    jobs,
    show,
    follow,
    approvals,
    approve,
    reject,
    respond,
    decide,
    cancel,
    retry,
    fork,
    schedule,
    postgres,
):
    main.add_command(_command)
