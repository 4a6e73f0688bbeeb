"""The two kinds of jobs: an agent's, and a scheduled one; their names and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import telemetry
from ._args import AgentArgs
from ._options import JobOptions

_FLAT_KEYS = frozenset({"agent_name", "model", "instruction"})


@dataclass(frozen=True, slots=True)
class Kind:
    """What sets one kind of jobs apart from the other; all of it as in the origin.

    Attributes:
        session: How session ids that are made for them begin.
        app_name: The app name of those that say none.
        options: Their default queue, attempts and priority.
        start: The telemetry event at the start of an attempt.
        complete: The one when it has answered.
        exception: The one when it has not.
        user_id: The user of those that say none; None: they must say one.
        message: The message of those that say none; None: they must say one.
        flat: Whether args may describe an inline agent without nesting, by
            `agent_name`, `model` and `instruction`.
    """

    session: str
    app_name: str
    options: JobOptions
    start: str
    complete: str
    exception: str
    user_id: str | None = None
    message: str | None = None
    flat: bool = False

    def parse(self, args: Mapping[str, Any]) -> AgentArgs:
        """Check the args of a job of this kind, and add its defaults.

        Raises:
            TypeError: A field is of the wrong type.
            ValueError: A field is missing, wrong or unknown; the message names it.
        """
        if not isinstance(args, Mapping):
            raise TypeError(f"args must be a mapping, got {args!r}")
        full = {key: value for key, value in args.items() if value is not None}
        if self.user_id is not None:
            full.setdefault("user_id", self.user_id)
        if self.message is not None:
            full.setdefault("message", self.message)
        return AgentArgs.parse(_nested(full) if self.flat else full)


AGENT = Kind(
    session="oban",
    app_name="adk_oban",
    options=JobOptions(queue="agents", max_attempts=3, priority=2),
    start=telemetry.JOB_START,
    complete=telemetry.JOB_COMPLETE,
    exception=telemetry.JOB_EXCEPTION,
)

SCHEDULED = Kind(
    session="scheduled",
    app_name="adk_scheduled",
    options=JobOptions(queue="scheduled", max_attempts=3, priority=2),
    start=telemetry.SCHEDULED_JOB_START,
    complete=telemetry.SCHEDULED_JOB_STOP,
    exception=telemetry.SCHEDULED_JOB_STOP,
    user_id="system",
    message="Run scheduled task",
    flat=True,
)


def _nested(args: dict[str, Any]) -> dict[str, Any]:
    """Turn the origin's flat inline agent into an `agent_config`."""
    flat = {key: args.pop(key) for key in list(args) if key in _FLAT_KEYS}
    if not flat:
        return args
    if "agent_module" in args or "agent_config" in args:
        raise ValueError(
            f"args has {sorted(flat)!r} beside agent_module or agent_config; an inline "
            "agent is described by one of them"
        )
    if "agent_name" in flat:
        flat["name"] = flat.pop("agent_name")
    return {**args, "agent_config": flat}
