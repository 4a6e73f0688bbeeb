"""A new job on a copy of a session, as of a step of another job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.adk.events import Event
from oban import Job
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from ._args import AgentArgs, Message, encode_message, new_session_id, show
from ._clock import naive_utc
from ._codec import decode, encode_event
from ._connection import fetch
from ._kind import Kind
from ._options import JobOptions
from ._query import statement
from ._services import Services

# What follows on the end of the one is not to follow twice, and its copy is not busy.
_LEFT_OUT = ("on_complete", "when_busy")
_SHARED = ("app:", "user:", "temp:")
_LATEST = datetime(9999, 1, 1)


@dataclass(frozen=True, slots=True)
class Source:
    """The job that is forked.

    Attributes:
        id: Its id.
        kind: What it is: an agent's job or a scheduled one.
        worker: Its worker's name.
        args: Its args.
        options: Its options, which the new one has unless it says others.
        inserted_at: When it was enqueued.
        attempted_at: When its last attempt started.
    """

    id: int
    kind: Kind
    worker: str
    args: dict[str, Any]
    options: JobOptions
    inserted_at: datetime
    attempted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the job that is forked.

    Attributes:
        app_name: ADK's app name; None when no attempt of it has ended.
        landed_id: ADK's id of the invocation that landed.
        shown_id: ADK's id of the invocation of which events are kept.
        steps: How many steps are recorded.
        began_at: When its invocation began, by its steps.
        had_steps: Whether there were some, as its result says.
    """

    app_name: str | None
    landed_id: str | None
    shown_id: str | None
    steps: int
    began_at: datetime | None
    had_steps: bool


@dataclass(frozen=True, slots=True)
class Fork:
    """A job that is to be made of another.

    Attributes:
        source: The other.
        after_step: How many of its steps count; None: all.
        message: What comes after them; None: the same message again, answered from the
            journal as far as they go.
        session_id: ADK's id of the copy.
        options: The new job's options.
    """

    source: Source
    after_step: int | None
    message: str | dict[str, Any] | None
    session_id: str
    options: JobOptions

    @classmethod
    def of(
        cls,
        source: Source,
        *,
        after_step: int | None,
        message: Message | None,
        session_id: str | None,
        options: dict[str, Any],
    ) -> Fork:
        """Check what a caller gave.

        Raises:
            TypeError: A value is of the wrong type.
            ValueError: A value is wrong; the message names it.
        """
        if after_step is not None:
            if not isinstance(after_step, int) or isinstance(after_step, bool):
                raise TypeError(f"after_step must be a number, got {show(after_step)}")
            if after_step < 0:
                raise ValueError(f"after_step must be 0 or more, got {after_step!r}")
        encoded = None if message is None else encode_message(message)
        checked = source.options.with_(**options)
        copy_id = new_session_id("fork") if session_id is None else session_id
        fork = cls(source, after_step, encoded, copy_id, checked)
        fork._parsed("app")
        return fork

    async def make(self, services: Services) -> Job:
        """Copy the session and enqueue the job, in one transaction.

        Raises:
            ValueError: There is no such step, or none any more; or the session of the
                copy is there already.
        """
        async with services.pool.connection() as conn, conn.transaction():
            known = await self._known(conn, services.prefix)
            self._check(known)
            parsed = self._parsed(known.app_name or self.source.kind.app_name)
            events = await self._events(conn, services.prefix, parsed, known)
            await self._copy_session(conn, services.prefix, parsed, known, events)
            job = await services.oban.enqueue(self._job(parsed), conn=conn)
            if self.message is None:
                await self._copy_steps(conn, services.prefix, job, known)
            return job

    def _parsed(self, app_name: str) -> AgentArgs:
        args = {k: v for k, v in self.source.args.items() if k not in _LEFT_OUT}
        said = {} if self.message is None else {"message": self.message}
        named = {"app_name": app_name, **args, **said, "session_id": self.session_id}
        return self.source.kind.parse(named)

    def _job(self, parsed: AgentArgs) -> Job:
        options = self.options.to_oban()
        forked = {"forked_from": self.source.id, "after_step": self.after_step}
        options["meta"] = {**options["meta"], **forked}
        return Job(self.source.worker, args=parsed.to_json(), **options)

    async def _known(self, conn: AsyncConnection[Any], prefix: str) -> Known:
        sql = statement("get_fork_source", prefix)
        (row,) = await fetch(conn, sql, self._values())
        return Known(*row)

    def _values(self) -> dict[str, Any]:
        return {"job_id": self.source.id, "since": self.source.inserted_at}

    def _check(self, known: Known) -> None:
        """Refuse steps that are not there."""
        wanted = self.after_step
        needs_steps = (self.message is None and wanted is None) or bool(wanted)
        if needs_steps and not known.steps and known.had_steps:
            raise ValueError(
                f"the steps of job {self.source.id} have been pruned; fork it with "
                "after_step=0, or keep them longer: AdkOban(step_ttl=...)"
            )
        if wanted is not None and wanted > known.steps:
            raise ValueError(
                f"job {self.source.id} has {known.steps} steps, got "
                f"after_step={wanted!r}"
            )

    async def _events(
        self,
        conn: AsyncConnection[Any],
        prefix: str,
        parsed: AgentArgs,
        known: Known,
    ) -> OwnEvents:
        """Return what the job itself has added to its session, or would have."""
        values = {
            **self._values(),
            **self._session(parsed),
            "invocation_id": known.landed_id or known.shown_id,
        }
        rows = await fetch(conn, statement("list_job_events", prefix), values)
        landed = next(((time, id) for _, time, id, _ in rows if time is not None), None)
        if self.message is None or self.after_step == 0:
            return OwnEvents(landed, ())
        limit = self.after_step
        if limit is not None and not any(steps is not None for steps, *_ in rows):
            raise ValueError(
                f"which events of job {self.source.id} belong to which step is not "
                "known any more; fork it without after_step, or without message"
            )
        events = [data for _steps, data in _until(rows, limit)]
        if landed is None and events:
            events.insert(0, self._user_event(events[0]))
        return OwnEvents(landed, tuple(whole(events)))

    def _user_event(self, first: dict[str, Any]) -> dict[str, Any]:
        content = self.source.kind.parse(self.source.args).content()
        event = Event(
            author="user", content=content, invocation_id=first["invocation_id"]
        )
        event.timestamp = first["timestamp"] - 0.001
        told: dict[str, Any] = decode(encode_event(event))
        return told

    def _session(self, parsed: AgentArgs) -> dict[str, Any]:
        kind, args = self.source.kind, self.source.args
        session_id = args.get("session_id") or f"{kind.session}-{self.source.id}"
        return {
            "app_name": parsed.app_name,
            "user_id": parsed.user_id,
            "session_id": session_id,
        }

    async def _copy_session(
        self,
        conn: AsyncConnection[Any],
        prefix: str,
        parsed: AgentArgs,
        known: Known,
        own: OwnEvents,
    ) -> None:
        before = own.first or (self._began_at(known), "")
        copied = {
            **self._session(parsed),
            "copy_id": self.session_id,
            "before_time": before[0],
            "before_id": before[1],
            "state": Jsonb(own.state()),
            "events": Jsonb(own.rows()),
        }
        ((free,),) = await fetch(conn, statement("copy_session", prefix), copied)
        if not free:
            raise ValueError(
                f"session {self.session_id!r} is there already; a fork needs one of "
                "its own, or none: session_id=None"
            )

    def _began_at(self, known: Known) -> datetime:
        """When the job's turn began, as far as the session does not tell."""
        began_at = known.began_at or self.source.attempted_at or _LATEST
        return naive_utc(began_at)

    async def _copy_steps(
        self, conn: AsyncConnection[Any], prefix: str, job: Job, known: Known
    ) -> None:
        count = known.steps if self.after_step is None else self.after_step
        values = {**self._values(), "copy_id": job.id, "count": count}
        await conn.execute(statement("copy_steps", prefix), values)


@dataclass(frozen=True, slots=True)
class OwnEvents:
    """What a job itself has added to its session, or would have.

    Attributes:
        first: Where that begins in the session: a time and an event's id; None when
            nothing of it is there.
        events: Those of ADK's events, as JSON, that a copy is to have.
    """

    first: tuple[datetime, str] | None
    events: tuple[dict[str, Any], ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return them as `copy_session.sql` has them."""
        return [
            {
                "n": n,
                "id": event["id"],
                "invocation_id": event["invocation_id"],
                "timestamp": _iso(event["timestamp"]),
                "data": event,
            }
            for n, event in enumerate(self.events, 1)
        ]

    def state(self) -> dict[str, Any]:
        """Return what they change in the session's own state."""
        deltas = [
            (e.get("actions") or {}).get("state_delta") or {} for e in self.events
        ]
        changed = {key: value for delta in deltas for key, value in delta.items()}
        return {k: v for k, v in changed.items() if not k.startswith(_SHARED)}


def whole(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events without the first call that nobody answered, and what follows."""
    answered = {r.get("id") for e in events for r in _parts(e, "function_response")}
    for n, event in enumerate(events):
        if any(c.get("id") not in answered for c in _parts(event, "function_call")):
            return whole(events[:n])  # an answer may have been among what followed
    return events


def _parts(event: dict[str, Any], kind: str) -> Iterable[dict[str, Any]]:
    parts = (event.get("content") or {}).get("parts") or []
    return [part[kind] for part in parts if part.get(kind)]


def _until(
    rows: Iterable[tuple[Any, ...]], limit: int | None
) -> Iterable[tuple[int, dict[str, Any]]]:
    """Return events with their steps, those of people with the ones before them."""
    done = 0
    for steps, time, id, data in rows:
        done = max(done, steps or 0)
        if limit is None or done <= limit:
            known = {"id": id, **data}
            if time is not None:
                known.setdefault("timestamp", time.replace(tzinfo=UTC).timestamp())
            yield done, known


def _iso(timestamp: float) -> str:
    return naive_utc(datetime.fromtimestamp(timestamp, UTC)).isoformat()
