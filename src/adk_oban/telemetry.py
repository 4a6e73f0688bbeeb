"""The names of all telemetry events, and a handler that logs one line a job.

Events go through `oban.telemetry`: a handler that is attached with
`oban.telemetry.attach(id, events, handler)` is called with the name and a dict.

- `adk.oban.job.start`: `job_id`, `args`, `agent`, `queue`, `attempt`, `max_attempts`,
  `system_time` (seconds since 1970)
- `adk.oban.job.complete`: those of start, and `duration` (ms), `event_count`, `events`
  (a list of ADK events), `model_calls`, `usage`, `text`, `error_code`
- `adk.oban.job.exception`: those of start, and `duration` (ms), `model_calls`,
  `error_type`, `error_message`
- `adk.oban.job.pause`: those of start, and `duration` (ms), `model_calls`, `usage`,
  `questions` (how many people are asked; see the approvals)
- `adk.oban.step`: `job_id`, `attempt`, `kind` (`"model"`, `"tool"`, `"node"`), `name`,
  `agent`, `branch`, `source` (`"live"`, `"replayed"`, or `"changed"`: live, since its
  request is not the one that was recorded), `changed` (what of it is not: `model`,
  `instruction`, `contents`, `tools`, `config`, `args`, `inputs`), `duration` (ms, of
  the live call), `usage`
- `adk.scheduled_job.start`: as `adk.oban.job.start`
- `adk.scheduled_job.stop`: also on failure; those of `complete` or of `exception`, and
  `result` (the final text, or the error)
"""

from __future__ import annotations

import json
import logging
from typing import Any

from oban import telemetry

JOB_START = "adk.oban.job.start"
JOB_COMPLETE = "adk.oban.job.complete"
JOB_EXCEPTION = "adk.oban.job.exception"
JOB_PAUSE = "adk.oban.job.pause"
STEP = "adk.oban.step"
SCHEDULED_JOB_START = "adk.scheduled_job.start"
SCHEDULED_JOB_STOP = "adk.scheduled_job.stop"

EVENTS = (
    JOB_START,
    JOB_COMPLETE,
    JOB_EXCEPTION,
    JOB_PAUSE,
    SCHEDULED_JOB_START,
    SCHEDULED_JOB_STOP,
    STEP,
)
"""All of them. Attaching to a name that is never emitted fails silently."""

LOGGER = "adk_oban.jobs"
"""The logger that `attach_logger` logs to."""

_HANDLER = "adk-oban-logger"
_LOGGED = (
    "job_id",
    "agent",
    "queue",
    "attempt",
    "max_attempts",
    "duration",
    "event_count",
    "model_calls",
    "usage",
    "error_code",
    "error_type",
    "error_message",
)


def emit(event: str, fields: dict[str, Any]) -> None:
    """Tell all handlers of an event. A handler that fails is logged and passed over."""
    telemetry.execute(event, fields)


def attach_logger(
    *, level: int = logging.INFO, logger: logging.Logger | None = None
) -> None:
    """Log one line of JSON for each attempt of a job that ends.

    Args:
        level: The level for jobs that complete (default INFO); a failed attempt is
            logged as a warning.
        logger: Where to (default: the logger `adk_oban.jobs`).

    Example:
        >>> logging.basicConfig(level=logging.INFO, format="%(message)s")
        >>> attach_logger()
        {"event": "adk.oban.job.complete", "job_id": 1, "agent": "helper", ...}
    """
    target = logger or logging.getLogger(LOGGER)

    def log(event: str, fields: dict[str, Any]) -> None:
        failed = "error_type" in fields
        line = {key: fields[key] for key in _LOGGED if fields.get(key) is not None}
        target.log(
            logging.WARNING if failed else level,
            json.dumps({"event": event, **line}, default=str, ensure_ascii=False),
        )

    detach_logger()
    ends = [JOB_COMPLETE, JOB_EXCEPTION, SCHEDULED_JOB_STOP]
    telemetry.attach(_HANDLER, ends, log)


def detach_logger() -> None:
    """Log no more; safe when nothing is attached."""
    telemetry.detach(_HANDLER)
