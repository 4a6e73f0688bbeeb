"""The table of approvals: asking, answering, and what happens at a deadline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from ._args import check_json, show
from ._codec import encode
from ._connection import autocommit, fetch
from ._payload import pack
from ._query import statement
from ._question import Question
from ._replies import Reply
from ._steps import Owner, Steps
from .approvals import KINDS, STATES, Approval
from .errors import AlreadyAnsweredError

WAITS = "approval"
"""What a job's meta says it waits for."""


_NUMBERS = ("job_id", "after", "limit")
_TEXTS = ("user_id", "session_id", "app_name", "agent", "tool")
_SECRET = re.compile(
    "(client_?secret|password|(access_?|refresh_?|id_?)?token|api_?key|auth_?code)",
    re.IGNORECASE,
)
_MASK = "***"


@dataclass(frozen=True, slots=True)
class Inbox:
    """Which approvals are looked for.

    Attributes:
        state: Their state; None: any.
        job_id: Their job.
        user_id: ADK's user id.
        session_id: ADK's session id.
        app_name: ADK's app name.
        agent: The agent that asks.
        tool: The tool that it is about.
        kind: What kind of question.
        after: Those after this number.
        limit: How many at most.
    """

    state: str | None = "open"
    job_id: int | None = None
    user_id: str | None = None
    session_id: str | None = None
    app_name: str | None = None
    agent: str | None = None
    tool: str | None = None
    kind: str | None = None
    after: int = 0
    limit: int = 50

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            _check_number(name, getattr(self, name))
        for name in _TEXTS:
            _check_text(name, getattr(self, name))
        if self.state is not None and self.state not in STATES:
            raise ValueError(f"state must be one of {STATES!r}, got {self.state!r}")
        if self.kind is not None and self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS!r}, got {self.kind!r}")
        if not 1 <= self.limit <= 1000:
            raise ValueError(f"limit must be 1 to 1000, got {self.limit!r}")


class Approvals:
    """What agents ask people.

    Whoever asks, answers or gives up holds the job's row, so that one of them sees
    what the other has written.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
        steps: Where what happened to a tool that runs once is written.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str, steps: Steps) -> None:
        self._pool = pool
        self._prefix = prefix
        self._steps = steps

    async def list(self, inbox: Inbox) -> list[Approval]:
        """Return approvals, the one that waits longest first."""
        async with autocommit(self._pool) as conn:
            rows = await fetch(conn, self._sql("list_approvals"), asdict(inbox))
        return [shown(Approval.of(row)) for (row,) in rows]

    async def get(self, approval_id: int) -> Approval | None:
        """Return one approval, or None."""
        async with autocommit(self._pool) as conn:
            found = await self._get(conn, approval_id)
        return None if found is None else shown(found)

    async def answer(self, approval: Approval, reply: Reply) -> Approval:
        """Answer a question, and let its job go on if it was the last.

        Raises:
            AlreadyAnsweredError: Somebody was faster, or the deadline has passed.
        """
        if approval.kind == "credential":
            reply = await self._with_secrets(approval, reply)
        values = {
            "id": approval.id,
            **asdict(reply),
            "response": None if reply.response is None else Jsonb(reply.response),
            "edited_args": None
            if reply.edited_args is None
            else Jsonb(reply.edited_args),
            "events": f"{self._prefix}.oban_adk_event",
            "inserts": f"{self._prefix}.oban_insert",
        }
        async with self._pool.connection() as conn, conn.transaction():
            await fetch(conn, self._sql("lock_asking_job"), {"id": approval.id})
            rows = await fetch(conn, self._sql("answer_approval"), values)
            if rows and approval.kind == "decision":
                await self._decide(conn, approval, reply)
            if not rows:
                now = await self._get(conn, approval.id) or approval
                raise AlreadyAnsweredError(now.id, now.state, now.answered_by)
        return shown(Approval.of(rows[0][0]))

    async def ask(
        self,
        owner: Owner,
        questions: Sequence[Question],
        *,
        segment: int,
        waits: str,
        whose: dict[str, str],
    ) -> bool:
        """Ask from the middle of an agent's run, and let its job wait.

        Args:
            owner: The attempt.
            questions: What is asked.
            segment: Which part of the invocation asks, between pauses.
            waits: What the job's meta says it waits for.
            whose: `app_name`, `user_id` and `session_id`.

        Returns:
            Whether the job was still the attempt's own.
        """
        rows = encode([question.row(segment) for question in questions])
        values = {"job_id": owner.job_id, "questions": rows, **whose}
        async with self._pool.connection() as conn, conn.transaction():
            if not await fetch(conn, self._sql("lock_own_job"), asdict(owner)):
                return False
            await fetch(conn, self._sql("ask_questions"), values)
            await self._pause(conn, owner, waits)
        return True

    async def settle(self, owner: Owner) -> tuple[str, Approval | None]:
        """Give up on what nobody has answered in time.

        Returns:
            What becomes of the attempt: `"goes_on"`, `"waits"` (its job is paused
            again), `"lost"`, or `"cancel"` with the question that says so.
        """
        async with self._pool.connection() as conn, conn.transaction():
            if not await fetch(conn, self._sql("lock_own_job"), asdict(owner)):
                return "lost", None
            values = {"job_id": owner.job_id}
            await conn.execute(self._sql("reopen_approvals"), values)
            cancels = await fetch(conn, self._sql("expire_approvals"), values)
            if cancels:
                return "cancel", Approval.of(cancels[0][0])
            waits = await self._pause(conn, owner, WAITS)
        return ("waits" if waits else "goes_on"), None

    async def _pause(
        self, conn: AsyncConnection[Any], owner: Owner, waits: str
    ) -> bool:
        values = {"job_id": owner.job_id, "waits": waits}
        return bool(await fetch(conn, self._sql("pause_job"), values))

    async def _decide(
        self, conn: AsyncConnection[Any], approval: Approval, reply: Reply
    ) -> None:
        match reply.state:
            case "approved":
                payload = None
            case "rejected":
                payload = pack({"refused": reply.reason or "rejected"})
            case _:
                payload = pack({"result": reply.response})
        step_id = int(approval.payload["step_id"])
        decided = await self._steps.decide(
            approval.job_id, step_id, payload=payload, conn=conn
        )
        if not decided:
            raise LookupError(
                f"job {approval.job_id} has no undecided step {step_id!r} any more"
            )

    async def _with_secrets(self, approval: Approval, reply: Reply) -> Reply:
        # People answer with what they were shown.
        async with autocommit(self._pool) as conn:
            asked = await self._get(conn, approval.id) or approval
        config = asked.payload.get("authConfig", asked.payload.get("auth_config"))
        return replace(reply, response=_unmasked(reply.response, config))

    async def _get(
        self, conn: AsyncConnection[Any], approval_id: int
    ) -> Approval | None:
        rows = await fetch(conn, self._sql("get_approval"), {"id": approval_id})
        return Approval.of(rows[0][0]) if rows else None

    def _sql(self, name: str) -> LiteralString:
        return statement(name, self._prefix)


def shown(approval: Approval) -> Approval:
    """Return an approval as people may see it: without a credential's secrets."""
    if approval.kind != "credential":
        return approval
    return replace(approval, payload=_without_secrets(approval.payload), response=None)


def _without_secrets(value: Any) -> Any:
    match value:
        case dict():
            return {
                key: _MASK
                if _SECRET.fullmatch(key) and each
                else _without_secrets(each)
                for key, each in value.items()
            }
        case list():
            return [_without_secrets(each) for each in value]
    return value


def _unmasked(value: Any, asked: Any) -> Any:
    """Return an answer with what was masked in the question as it was asked."""
    if value == _MASK:
        return asked
    match value, asked:
        case dict(), dict():
            return {key: _unmasked(each, asked.get(key)) for key, each in value.items()}
        case list(), list() if len(value) == len(asked):
            return [_unmasked(*pair) for pair in zip(value, asked, strict=True)]
    return value


def _check_number(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError(f"{name} must be a whole number, got {show(value)}")
    if value is not None and not 0 <= value < 2**63:
        raise ValueError(f"{name} must be 0 to 2**63 - 1, got {show(value)}")


def _check_text(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {show(value)}")
    check_json(name, value)
