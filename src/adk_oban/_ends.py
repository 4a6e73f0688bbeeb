"""How jobs ended, as those that follow on them are told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from ._args import MAX_MESSAGE_BYTES
from ._query import statement

ENDS = ("completed", "discarded", "cancelled")
"""The states in which a job has ended."""


@dataclass(frozen=True, slots=True)
class End:
    """How a job ended; what nothing is known of is None.

    Attributes:
        job_id: The job's id.
        state: `"completed"`, `"discarded"` or `"cancelled"`.
        kept: Whether its result is kept.
        agent: The name of its agent.
        app_name: ADK's app name.
        user_id: ADK's user id.
        session_id: ADK's session id.
        invocation_id: ADK's id of the invocation.
        text: The final answer, or how it begins.
        length: How many characters the answer has.
        output: The structured output, unless it is too long.
        output_length: How many characters it has as JSON.
        error: Why there is no answer.
        error_code: The model's error code.
        model_calls: How many model calls the job took.
        usage: Sums of their token counts.
    """

    job_id: int
    state: str | None
    kept: bool
    agent: str | None
    app_name: str | None
    user_id: str | None
    session_id: str | None
    invocation_id: str | None
    text: str | None
    length: int
    output: Any
    output_length: int
    error: str | None
    error_code: str | None
    model_calls: int | None
    usage: dict[str, int] | None

    @property
    def reason(self) -> str | None:
        """Why there is no answer; also that it is no longer known."""
        if self.error is None and not self.kept and self.state in (None, "completed"):
            return f"the result of job {self.job_id} is no longer kept (result_ttl)"
        return self.error

    def answer(self, limit: int) -> str:
        """Return the text, or else the output, of at most `limit` characters."""
        if self.text:
            return self._cut(self.text, self.length, limit)
        if self.output is not None:
            text = json.dumps(self.output, ensure_ascii=False)
            return self._cut(text, len(text), limit)
        if self.output_length:
            return self._left_out(self.output_length)
        return (
            f"(job {self.job_id} ended without text: {self.error_code or 'no reason'})"
        )

    def to_json(self, limit: int) -> dict[str, Any]:
        """Return it for a batch, with texts of at most `limit` characters."""
        output, length = self.output, self.output_length
        if length and (output is None or length > limit):
            output = self._left_out(length)
        error = self.reason
        return {
            "job_id": self.job_id,
            "agent": self.agent,
            "state": self.state,
            "text": self._cut(self.text or "", self.length, limit),
            "output": output,
            "error": error and self._cut(error, len(error), limit),
        }

    def _cut(self, text: str, length: int, limit: int) -> str:
        if length <= min(limit, len(text)):
            return text
        count = min(limit, len(text))
        told = f"cut: {count} of {length} characters of job {self.job_id}"
        return f"{text[:count]}… ({told})"

    def _left_out(self, length: int) -> str:
        return f"(left out: {length} characters of job {self.job_id})"


async def read_ends(
    conn: AsyncConnection[Any],
    prefix: str,
    job_ids: Sequence[int],
    *,
    state: str | None = None,
    budget: int = MAX_MESSAGE_BYTES,
) -> list[End]:
    """Return how jobs ended, in the order of their ids.

    Args:
        conn: A connection.
        prefix: The schema of the tables.
        job_ids: Which jobs.
        state: In which state they ended, since when they may have been retried; None:
            in the one that they are in.
        budget: How many characters their texts may have together.
    """
    values = {"ids": [*job_ids], "state": state, "budget": budget}
    async with conn.cursor(row_factory=class_row(End)) as cursor:
        await cursor.execute(statement("get_ends", prefix), values)
        return await cursor.fetchall()
