"""Agents that ask before they pay, and the people who answer their jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.sessions import Session
from google.adk.tools import FunctionTool

from adk_oban import AdkOban, AgentWorker
from adk_oban.approvals import Approval
from adk_oban.jobs import AgentJob
from adk_oban.testing import ScriptedModel, call, drain


class Bank:
    """What was paid, and how often the tools ran."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    def pay(self, amount: int) -> dict[str, int]:
        """Pay."""
        self.paid.append(amount)
        return {"paid": amount}

    @property
    def confirmed(self) -> FunctionTool:
        return FunctionTool(self.pay, require_confirmation=True)


def agent(name: str, *replies: Any, tools: Any = ()) -> LlmAgent:
    model = ScriptedModel(replies=list(replies))
    return LlmAgent(name=name, model=model, tools=list(tools))


def payer(bank: Bank, *more: Any) -> LlmAgent:
    """An agent that asks whether it may pay 3."""
    return agent("payer", call("pay", amount=3), "done", *more, tools=[bank.confirmed])


class Inbox:
    """A client whose worker is drained by hand."""

    def __init__(self, jobs: AdkOban, job: AgentJob) -> None:
        self.jobs = jobs
        self.job = job

    async def run(self) -> str:
        """Run what can run; return the job's state."""
        await drain(self.jobs)
        self.job = await self.job.reload()
        return self.job.state

    async def open(self) -> list[Approval]:
        return await self.jobs.approvals(job_id=self.job.id)

    async def text(self) -> str:
        assert await self.run() == "completed", self.job.errors
        return (await self.job.result(timeout=5)).text

    async def asked(self) -> Approval:
        """Run the job until it has paused, and return the one thing it asks."""
        assert await self.run() == "scheduled", self.job
        (asked,) = await self.open()
        return asked

    async def session(self) -> Session | None:
        return await self.jobs.sessions.get_session(
            app_name=self.job.args["app_name"], user_id="u", session_id="s"
        )


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an agent `"a"` runs, in a database of a test's own."""

    dsn: str
    prefix: str

    def client(self, root: Any, **options: Any) -> AdkOban:
        return AdkOban(self.dsn, agents={"a": root}, prefix=self.prefix, **options)

    async def start(self, jobs: AdkOban, **options: Any) -> Inbox:
        job = await AgentWorker.enqueue("a", "u", "go", session_id="s", **options)
        return Inbox(jobs, job)


async def weeks_later(conn: Any, prefix: str) -> None:
    """Let two weeks pass for what waits."""
    await conn.execute(
        f"UPDATE {prefix}.adk_oban_approvals SET asked_at = asked_at - interval "
        "'2 weeks', deadline = deadline - interval '2 weeks' WHERE state = 'open'"
    )
    await conn.execute(
        f"UPDATE {prefix}.oban_jobs SET inserted_at = inserted_at - interval "
        "'2 weeks', scheduled_at = scheduled_at - interval '2 weeks' "
        "WHERE state = 'scheduled'"
    )
