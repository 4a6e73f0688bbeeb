"""Jobs that fail and go on: what each attempt did, and what was left in the session."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from google.adk.sessions import Session
from google.adk.workflow import START, Workflow
from oban import current_job, telemetry
from psycopg import AsyncConnection

from adk_oban import AdkOban, AgentResult, AgentWorker
from adk_oban.jobs import AgentJob
from adk_oban.telemetry import STEP
from adk_oban.testing import drain

SESSION = {"app_name": "app", "user_id": "u", "session_id": "s"}


@dataclass(slots=True)
class Run:
    """What came of a job.

    Attributes:
        job: The job, as it is at the end.
        ended: How many attempts ended in which state.
        session: Its session; None when there is none.
        told: What telemetry said of its steps.
        result: What it ended with; None unless it completed.
    """

    job: AgentJob
    ended: dict[str, int]
    session: Session | None
    told: list[dict[str, Any]]
    result: AgentResult | None

    def steps(self, attempt: int) -> list[str]:
        """Return the steps of an attempt: `"tool look replayed"`."""
        mine = [step for step in self.told if step["attempt"] == attempt]
        return [f"{step['kind']} {step['name']} {step['source']}" for step in mine]

    def count(self, attempt: int, what: str) -> int:
        """Count the steps of an attempt that end with these words."""
        return sum(step.endswith(what) for step in self.steps(attempt))

    @property
    def events(self) -> list[Any]:
        """Return the session's events without what is another in each run."""
        return [] if self.session is None else [shown(e) for e in self.session.events]

    @property
    def state(self) -> dict[str, Any]:
        """Return the session's state."""
        return {} if self.session is None else self.session.state

    @property
    def error(self) -> str:
        """Return the last error."""
        return self.job.errors[-1]["error"] if self.job.errors else ""


@dataclass(slots=True)
class Runs:
    """Runs agents as jobs in a database of a test's own."""

    dsn: str
    prefix: str
    told: list[dict[str, Any]] = field(default_factory=list)

    @asynccontextmanager
    async def client(self, agent: Any = None, **options: Any) -> AsyncIterator[AdkOban]:
        """Give an AdkOban that knows an agent `"a"` and retries at once."""
        given = {"backoff": lambda _job: 0, "prefix": self.prefix, **options}
        if agent is not None:
            given["agents"] = {"a": agent}
        async with AdkOban(self.dsn, **given) as jobs:
            with told_steps() as self.told:
                yield jobs

    async def __call__(
        self, agent: Any, *, adk_oban: dict[str, Any] | None = None, **options: Any
    ) -> Run:
        """Enqueue the agent, and drain until its job has ended."""
        async with self.client(agent, **(adk_oban or {})) as jobs:
            job = await enqueue(**options)
            ended = await drain(jobs)
            return await self.seen(jobs, job, ended)

    async def seen(self, jobs: AdkOban, job: AgentJob, ended: dict[str, int]) -> Run:
        """Return what came of a job."""
        job = await jobs.get_job(job.id)
        session = await jobs.sessions.get_session(
            app_name=job.args["app_name"],
            user_id=job.args["user_id"],
            session_id=job.args["session_id"],
        )
        mine = [step for step in self.told if step["job_id"] == job.id]
        result = await job.result(timeout=5) if job.state == "completed" else None
        return Run(job, ended, session, mine, result)


async def enqueue(message: Any = "hi", **options: Any) -> AgentJob:
    """Enqueue a message to the agent `"a"`, in the session of these tests."""
    session = {key: SESSION[key] for key in ("app_name", "session_id")}
    return await AgentWorker.enqueue("a", "u", message, **{**session, **options})


@contextmanager
def told_steps() -> Iterator[list[dict[str, Any]]]:
    """Collect what telemetry says of steps."""
    told: list[dict[str, Any]] = []
    telemetry.attach("told", [STEP], lambda _event, fields: told.append(fields))
    try:
        yield told
    finally:
        telemetry.detach("told")


def attempt() -> int:
    """Return which attempt of a job this is; 0 outside jobs."""
    job = current_job()
    return 0 if job is None else job.attempt


def in_order(*nodes: Any) -> Workflow:
    """Return a workflow that runs agents or functions one after another."""
    return Workflow(name="w", edges=[(START, *nodes)])


def shown(event: Any) -> Any:
    """Return what an event says, without ids and times."""
    data = json.loads(event.model_dump_json(exclude_none=True))
    for name in ("id", "timestamp", "invocation_id", "node_info"):
        data.pop(name, None)
    data.pop("long_running_tool_ids", None)
    data["actions"] = {k: v for k, v in data["actions"].items() if v not in ({}, [])}
    for part in data.get("content", {}).get("parts", []):
        for kind in ("function_call", "function_response"):
            part.get(kind, {}).pop("id", None)
    return data


async def asked(conn: AsyncConnection, prefix: str) -> list[tuple[Any, ...]]:
    """Return what agents ask people: the kind, the tool, its args, ADK's own call."""
    found = await conn.execute(
        f"SELECT kind, tool, args, payload FROM {prefix}.adk_oban_approvals ORDER BY id"
    )
    return await found.fetchall()


async def fail_commits(
    conn: AsyncConnection,
    prefix: str,
    *,
    times: int = 1,
    table: str = "adk_oban_results",
) -> None:
    """Let the next commits of turns fail in the database."""
    await conn.execute(f"CREATE SEQUENCE {prefix}.commits")
    await conn.execute(
        f"CREATE FUNCTION {prefix}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN IF nextval('{prefix}.commits') <= {times} THEN "
        "RAISE EXCEPTION 'commit refused'; END IF; RETURN NEW; END $$"
    )
    await conn.execute(
        f"CREATE TRIGGER fail BEFORE INSERT ON {prefix}.{table} "
        f"FOR EACH ROW EXECUTE FUNCTION {prefix}.fail()"
    )
