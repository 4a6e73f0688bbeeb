"""A web app whose tickets are answered by an agent in the background.

The app, its table, the jobs and their worker share one process and one database.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

from agent import support
from fastapi import Depends, FastAPI, HTTPException, Request
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from adk_oban import AdkOban, AgentJob, AgentWorker, schema
from adk_oban.embedded import EmbeddedPostgres
from adk_oban.errors import JobFailedError, ResultTimeoutError

TABLE = """
CREATE TABLE IF NOT EXISTS tickets (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    question text NOT NULL,
    job_id bigint
)
"""


class Question(BaseModel):
    """What a user asks."""

    user: str
    text: str


class Ticket(BaseModel):
    """A question and what has become of it."""

    id: int
    question: str
    state: str
    answer: str | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the worker for as long as the app runs."""
    async with AsyncExitStack() as stack:
        dsn = os.environ.get("ADK_OBAN_DSN")
        if dsn is None:
            dsn = (await stack.enter_async_context(EmbeddedPostgres())).dsn
        pool = AsyncConnectionPool(dsn, open=False)
        await stack.enter_async_context(pool)
        async with pool.connection() as conn:
            await schema.migrate(conn)
            await conn.execute(TABLE)
        app.state.pool = pool
        app.state.jobs = await stack.enter_async_context(
            AdkOban(pool=pool, queues={"agents": 10}, agents={"support": support})
        )
        yield


def _pool(request: Request) -> AsyncConnectionPool:
    pool: AsyncConnectionPool = request.app.state.pool
    return pool


def _jobs(request: Request) -> AdkOban:
    jobs: AdkOban = request.app.state.jobs
    return jobs


Pool = Annotated[AsyncConnectionPool, Depends(_pool)]
Jobs = Annotated[AdkOban, Depends(_jobs)]

app = FastAPI(title="Tickets", lifespan=lifespan)


@app.post("/tickets", status_code=202)
async def ask(question: Question, pool: Pool) -> Ticket:
    """Store a ticket, and enqueue the agent that answers it: both, or neither."""
    async with pool.connection() as conn:  # one transaction
        insert = "INSERT INTO tickets (question) VALUES (%s) RETURNING id"
        row = await (await conn.execute(insert, [question.text])).fetchone()
        assert row is not None
        try:
            job = await AgentWorker.enqueue(
                "support",
                question.user,
                question.text,
                session_id=f"ticket-{row[0]}",
                conn=conn,
            )
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        update = "UPDATE tickets SET job_id = %s WHERE id = %s"
        await conn.execute(update, [job.id, row[0]])
    return Ticket(id=row[0], question=question.text, state=job.state)


@app.get("/tickets/{number}")
async def look(number: int, pool: Pool, jobs: Jobs, wait: float = 0) -> Ticket:
    """Show a ticket, once it is answered or `wait` seconds have passed."""
    async with pool.connection() as conn:
        select = "SELECT question, job_id FROM tickets WHERE id = %s"
        row = await (await conn.execute(select, [number])).fetchone()
    job = None if row is None else await jobs.get_job(row[1])
    if row is None or job is None:
        raise HTTPException(404, f"there is no ticket {number}")
    state, answer = await _answer(job, min(wait, 30))
    return Ticket(id=number, question=row[0], state=state, answer=answer)


async def _answer(job: AgentJob, seconds: float) -> tuple[str, str | None]:
    try:
        result = await job.result(timeout=seconds)
    except (ResultTimeoutError, JobFailedError) as error:
        return error.state, None
    return "completed", result.text
