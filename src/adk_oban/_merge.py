"""Messages that wait are taken together: one more for a job that has not started."""

from __future__ import annotations

import json
from typing import Any

from oban import Job
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from ._args import MAX_MESSAGE_BYTES
from ._connection import fetch, fetch_one
from ._oban import job_row
from ._query import statement


async def merge(
    job: Job, into: int, *, conn: AsyncConnection[Any], prefix: str
) -> Job | None:
    """Add a job's message to those of one that waits; return that one.

    Args:
        job: The job, which is not enqueued.
        into: The id of the one that may wait.
        conn: Where the transaction is.
        prefix: The schema of the tables.

    Returns:
        None when it does not wait, takes no more messages, is to run something else, or
        would have a message that is too long.
    """
    rows = await fetch(conn, statement("lock_waiting_job", prefix), {"id": into})
    if not rows or _besides_message(rows[0][0]) != _besides_message(job.args):
        return None
    message = joined(rows[0][0]["message"], job.args["message"])
    if len(json.dumps(message, ensure_ascii=False).encode()) > MAX_MESSAGE_BYTES:
        return None
    channel = f"{prefix}.oban_insert"
    values = {"id": into, "message": Jsonb(message), "channel": channel}
    return await fetch_one(conn, statement("merge_message", prefix), values, job_row)


def joined(first: str | dict[str, Any], second: str | dict[str, Any]) -> dict[str, Any]:
    """Return one message with the parts of two, in their order."""
    return {"role": "user", "parts": [*_parts(first), *_parts(second)]}


def _parts(message: str | dict[str, Any]) -> list[Any]:
    if isinstance(message, str):
        return [{"text": message}]
    return list(message["parts"])


def _besides_message(args: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in args.items() if key != "message"}
