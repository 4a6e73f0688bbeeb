"""What a worker logs, on stderr: lines for people, or lines of JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from adk_oban import telemetry


def log(level: str, *, as_json: bool) -> None:
    """Log all that is of a level or above, and a line for each attempt that ends.

    Raises:
        ValueError: There is no such level.
    """
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter(form))
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.addHandler(handler)
    if root.level > logging.DEBUG:  # they tell of every request to a model
        for name in ("google_adk", "google_genai"):
            logging.getLogger(name).setLevel(logging.WARNING)
    telemetry.attach_logger()


class JsonFormatter(logging.Formatter):
    """Makes one line of JSON of a record; the fields of a job's line are its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC)
        line = {"at": at.isoformat(), "level": record.levelname, "logger": record.name}
        message = record.getMessage()
        if record.name == telemetry.LOGGER:
            return json.dumps({**line, **json.loads(message)}, ensure_ascii=False)
        line["message"] = message
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
