"""What a job left in the database, with nothing in it that differs from run to run."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

_CALL = re.compile(r"\badk-[0-9a-f-]{36}\b")
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_DROPPED = ("id", "invocation_id", "timestamp")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a job left.

    Attributes:
        events: All of the session's events, in order.
        state: The session's own state.
        user_state: The user's.
        app_state: The app's.
        result: The kept result's text, output, error, state, and what it took.
        ledger: What was booked, and how often.
    """

    events: list[dict[str, Any]]
    state: dict[str, Any]
    user_state: Any
    app_state: Any
    result: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """Oban's row of the job that was crashed."""

    id: int
    state: str
    attempt: int
    errors: list[Any]
    meta: dict[str, Any]


def take(conn: Connection, job: int, *, ordered: bool) -> Snapshot:
    """Read what a job left.

    Args:
        conn: A connection that finds the tables.
        job: The job's id.
        ordered: Whether the order of events of different branches means anything.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        events = [
            row["event_data"]
            for row in cursor.execute(
                "SELECT event_data FROM events ORDER BY timestamp, id"
            )
        ]
        return Snapshot(
            events=normalized(events, ordered=ordered),
            state=_one(cursor, "sessions"),
            user_state=_one(cursor, "user_states"),
            app_state=_one(cursor, "app_states"),
            result=_result(cursor, job),
            ledger=dict(
                Counter(
                    row["entry"]
                    for row in cursor.execute("SELECT entry FROM ledger ORDER BY entry")
                )
            ),
        )


def normalized(events: list[dict[str, Any]], *, ordered: bool) -> list[dict[str, Any]]:
    """Return events without ids and times, in an order that can be compared."""
    plain = [_plain(event) for event in events]
    if not ordered:
        plain.sort(key=_place)
    text = json.dumps(plain)
    for pattern, name in ((_CALL, "call"), (_UUID, "uuid")):
        ids = list(dict.fromkeys(pattern.findall(text)))
        for number, found in enumerate(ids):
            text = text.replace(found, f"{name}-{number}")
    made: list[dict[str, Any]] = json.loads(text)
    for event in made:
        if waiting := event.get("long_running_tool_ids"):  # a set
            waiting.sort()
    return made


def row(conn: Connection, job: int) -> Row:
    """Return Oban's row of a job."""
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            "SELECT id, state::text, attempt, errors, meta FROM oban_jobs "
            "WHERE id = %s",
            (job,),
        )
        found = cursor.fetchone()
    assert found is not None, f"job {job} is gone"
    return Row(**found)


def recorded(conn: Connection, job: int) -> Counter[tuple[str, str]]:
    """Return how many steps of each kind and name the journal holds as done."""
    exists = conn.execute("SELECT to_regclass('adk_oban_steps')").fetchone()
    if exists == (None,):
        return Counter()
    rows = conn.execute(
        "SELECT kind, name FROM adk_oban_steps WHERE job_id = %s AND state = 'done'",
        (job,),
    )
    return Counter((kind, name) for kind, name in rows)


def turns(conn: Connection) -> tuple[int, dict[str, Any]]:
    """Return how many events a reader of the session sees, and its state."""
    events = conn.execute("SELECT count(*) FROM events").fetchone()
    state = conn.execute("SELECT state FROM sessions").fetchone()
    assert events is not None
    return events[0], state[0] if state else {}


def _one(cursor: Any, table: str) -> Any:
    states = [found["state"] for found in cursor.execute(f"SELECT state FROM {table}")]
    return states[0] if len(states) == 1 else states or {}


def _result(cursor: Any, job: int) -> dict[str, Any]:
    cursor.execute(
        "SELECT state, text, output, session_state, event_count, error_code, error, "
        "model_calls, usage FROM adk_oban_results WHERE job_id = %s",
        (job,),
    )
    return dict(cursor.fetchone() or {})


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in event.items() if key not in _DROPPED}
    actions = dict(plain.get("actions") or {})
    if compaction := actions.get("compaction"):
        times = ("start_timestamp", "end_timestamp")
        actions["compaction"] = {
            key: value for key, value in compaction.items() if key not in times
        }
    # A tool in flight may save a second version.
    if saved := actions.get("artifact_delta"):
        actions["artifact_delta"] = sorted(saved)
    plain["actions"] = actions
    return plain


def _place(event: dict[str, Any]) -> tuple[str, ...]:
    path = str((event.get("node_info") or {}).get("path") or "")
    return str(event.get("branch") or ""), path, str(event.get("author"))
