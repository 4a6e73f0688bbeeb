"""Partial text of models: told to those who follow, while it is made, and not kept.

It never slows an agent down: what cannot be told in time is dropped, since the whole
text comes with the event.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.adk.events import Event
from psycopg_pool import AsyncConnectionPool

from ._codec import storable
from ._connection import autocommit
from ._fingerprint import short_digest
from ._query import statement
from ._shown import Shown
from ._steps import Owner
from ._watch import PARTIALS

INTERVAL = 0.05
"""Seconds between two notifications of one answer."""

# PostgreSQL's limit of a notification, in bytes, and what an answer may have unsent.
_MOST_BYTES = 7_999
_MOST_UNSENT = 65_536

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Answer:
    """What a model is answering.

    Attributes:
        head: What each notification of it says.
        offset: How many characters were sent, or dropped.
        unsent: What came since.
    """

    head: dict[str, Any]
    offset: int = 0
    unsent: str = ""

    def take(self) -> Iterator[str]:
        """Return notifications with what is unsent."""
        text, offset = self.unsent, self.offset
        self.offset += len(text)
        self.unsent = ""
        while text:
            size, payload = _fitting(self.head, text, offset)
            if size == 0:
                return
            yield payload
            text, offset = text[size:], offset + size


class Partials:
    """The partial text of all jobs of a process: one statement for them, now and then.

    Args:
        pool: Connections to the database.
        prefix: The schema of the tables.
        shown: Complete events on their way: text that follows on them waits for them.
    """

    def __init__(self, pool: AsyncConnectionPool, prefix: str, shown: Shown) -> None:
        self._pool = pool
        self._prefix = prefix
        self._shown = shown
        self._answers: dict[tuple[int, str], _Answer] = {}
        self._completed: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._sent_at = 0.0

    def add(self, owner: Owner, steps: int, event: Event) -> None:
        """Take a partial event's text."""
        text = storable(_text(event))
        if not text:
            return
        name = answer_of(event)
        head = {
            "job_id": owner.job_id,
            "attempt": owner.attempt,
            "steps": steps,
            "agent": storable(event.author),
            "answer": name,
        }
        answer = self._answers.setdefault((owner.job_id, name), _Answer(head))
        answer.head["steps"] = steps
        answer.unsent += text
        if len(answer.unsent) > _MOST_UNSENT:
            answer.offset += len(answer.unsent)
            answer.unsent = ""
        self._arm(INTERVAL)

    def complete(self, job_id: int, name: str) -> None:
        """Send what is left of an answer, before its event is shown."""
        answer = self._answers.pop((job_id, name), None)
        if answer is not None and not self._shown.unwritten(job_id):
            self._completed += answer.take()
            if self._completed:
                self._arm(0)

    def forget(self, job_id: int) -> None:
        """Drop what is left of a job's answers: its run has ended."""
        for place in [place for place in self._answers if place[0] == job_id]:
            del self._answers[place]

    async def send(self) -> None:
        """Send what has come since the last time."""
        payloads, self._completed = self._completed, []
        for (job_id, _), answer in self._answers.items():
            if not self._shown.unwritten(job_id):
                payloads += answer.take()
        if not payloads:
            return
        values = {"channel": f"{self._prefix}.oban_{PARTIALS}", "payloads": payloads}
        try:
            async with autocommit(self._pool) as conn:
                await conn.execute(statement("notify_partials", self._prefix), values)
        except Exception as error:
            logger.warning("partial text was dropped: %s", error)

    def _arm(self, pause: float) -> None:
        loop = asyncio.get_running_loop()
        if self._sending is not None:
            return  # it looks again when it is done
        at = self._sent_at + pause if pause else loop.time()
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._sent_at = asyncio.get_running_loop().time()
        self._sending = asyncio.create_task(self._send(), name="adk-oban-partials")

    async def _send(self) -> None:
        try:
            await self.send()
        finally:
            self._sending = None
        if self._completed:
            self._arm(0)
        elif any(answer.unsent for answer in self._answers.values()):
            self._arm(INTERVAL)


def answer_of(event: Event) -> str:
    """Return what names the answer that an event is, or is part of, within its job."""
    return answer_name(event.author, event.branch)


def answer_name(author: str | None, branch: str | None) -> str:
    """Return what names the answers of an agent in a branch."""
    return short_digest(author or "", branch or "")[:8]


def _text(event: Event) -> str:
    parts = (event.content.parts or []) if event.content else []
    return "".join(part.text or "" for part in parts if not part.thought)


def _fitting(head: dict[str, Any], text: str, offset: int) -> tuple[int, str]:
    """Return how much of a text fits into one notification, and that notification."""
    size = min(len(text), _MOST_BYTES)
    while size:
        told = {**head, "text": text[:size], "offset": offset}
        payload = json.dumps(told, ensure_ascii=False)
        length = len(payload.encode())
        if length <= _MOST_BYTES:
            return size, payload
        size = min(size - 1, size * _MOST_BYTES // length)
    return 0, ""
