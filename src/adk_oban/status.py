"""Where a job stands, and what its agents have done in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from psycopg.rows import dict_row

from ._connection import autocommit
from ._query import statement
from ._services import Services
from .errors import JobNotFoundError
from .events import cursor_of

_TIMES = ("running_since", "next_run_at", "ended_at")


@dataclass(frozen=True, slots=True)
class LastStep:
    """What a job's agents did last.

    Attributes:
        kind: `"model"`, `"tool"` or `"node"`.
        name: The model's, tool's or node's.
        agent: The agent it belongs to.
    """

    kind: str
    name: str
    agent: str


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job stands, as it was when it was asked for.

    Attributes:
        job_id: The job's id.
        state: Oban's state; of a job that has been pruned, the one it ended in.
        is_pruned: Whether only its result is left.
        waits: What it waits for, and holds no slot: `"order"`: the jobs before it in
            its session; `"approval"`: somebody's answer; `"decision"`: somebody's word
            about a tool that runs once; `"worker"`: a worker that has AdkOban. None:
            nothing but a slot, or its time.
        attempt: How many attempts have started.
        max_attempts: How many there may be; None once it has been pruned.
        node: The node that it runs on; None while it does not run.
        running_since: When the attempt that runs started.
        next_run_at: When it runs next, if that is known: its time, its retry, the end
            of a wait, or the deadline of what is asked.
        ended_at: When it ended.
        error: The error of its last failed attempt, or why it ended without an answer.
        is_cancelling: Whether it runs, and has been told to stop.
        approvals: The ids of the questions that wait for an answer.
        steps_done: How many steps are recorded as done.
        last_step: The step that was recorded last.
        cursor: The place of the newest event: `events(after=cursor)` has what follows.
            None: there is no event.

    Example:
        >>> status = await job.status()
        >>> if status.waits == "approval":
        ...     print("waits for", status.approvals)
    """

    job_id: int
    state: str
    is_pruned: bool
    waits: str | None
    attempt: int
    max_attempts: int | None
    node: str | None
    running_since: datetime | None
    next_run_at: datetime | None
    ended_at: datetime | None
    error: str | None
    is_cancelling: bool
    approvals: tuple[int, ...]
    steps_done: int
    last_step: LastStep | None
    cursor: str | None

    @classmethod
    def of(cls, job_id: int, row: dict[str, Any]) -> Self:
        """Return the status of a row."""
        fields = {name: row[name] for name in cls.__slots__ if name in row}
        event, kind = row["last_event"], row["last_kind"]
        fields["approvals"] = tuple(row["approvals"])
        fields["cursor"] = None if event is None else cursor_of(job_id, event)
        fields["last_step"] = (
            None
            if kind is None
            else LastStep(kind, row["last_name"], row["last_agent"])
        )
        return cls(job_id=job_id, **fields)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data that JSON can hold."""
        return {
            **asdict(self),
            **{name: _iso(getattr(self, name)) for name in _TIMES},
            "approvals": list(self.approvals),
        }


@dataclass(frozen=True, slots=True)
class JobStep:
    """A step of a job: one model call, tool call or function node.

    Attributes:
        position: Which one in the order in which they were done, from 1, as `fork`
            counts them; what is not done comes last.
        kind: `"model"`, `"tool"` or `"node"`.
        name: The model's, tool's or node's.
        agent: The agent it belongs to.
        branch: ADK's branch, without the numbers of runs.
        segment: Which part of the invocation, between pauses; from 0.
        state: `"done"`; or of a tool that runs once `"started"` or `"raised"`.
        attempt: The attempt that recorded it.
        duration: How many seconds it took; None while nobody knows.
        tokens: A model call's token counts, under genai's names.
        recorded_at: When it was recorded.
        source: Where the last attempt has it from: `"live"`: it did it; `"replayed"`:
            from the journal of an attempt before. What came before a pause is live.
    """

    position: int
    kind: str
    name: str
    agent: str
    branch: str
    segment: int
    state: str
    attempt: int
    duration: float | None
    tokens: dict[str, int]
    recorded_at: datetime
    source: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data that JSON can hold."""
        return {**asdict(self), "recorded_at": self.recorded_at.isoformat()}


async def find_status(job_id: int, services: Services) -> JobStatus:
    """Return where a job stands.

    Raises:
        JobNotFoundError: Neither the job nor its result is there.
    """
    rows = await _rows("get_status", job_id, services)
    if not rows:
        raise JobNotFoundError(job_id)
    return JobStatus.of(job_id, rows[0])


async def find_steps(job_id: int, services: Services) -> list[JobStep]:
    """Return what a job's agents have done, in the order in which it was recorded.

    Raises:
        JobNotFoundError: Neither the job nor its result nor a step is there.
    """
    rows = await _rows("get_job_steps", job_id, services)
    if not rows:
        raise JobNotFoundError(job_id)
    return [
        JobStep(**{**row, "tokens": row["tokens"] or {}})
        for row in rows
        if row["kind"] is not None
    ]


async def _rows(name: str, job_id: int, services: Services) -> list[dict[str, Any]]:
    sql = statement(name, services.prefix)
    async with (
        autocommit(services.pool) as conn,
        conn.cursor(row_factory=dict_row) as cursor,
    ):
        await cursor.execute(sql, {"job_id": job_id})
        return await cursor.fetchall()


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
