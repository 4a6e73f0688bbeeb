"""What a running AdkOban gives to its jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from google.adk.artifacts import BaseArtifactService
from google.adk.auth.credential_service.base_credential_service import (
    BaseCredentialService,
)
from google.adk.memory import BaseMemoryService
from oban import Job, Oban
from psycopg_pool import AsyncConnectionPool

from ._approvals import Approvals
from ._cancels import Cancels
from ._event_log import EventLog
from ._fan_ins import FanIns
from ._liveness import Liveness
from ._order import Order
from ._partials import Partials
from ._results import Results
from ._retries import Retries
from ._steps import Steps
from ._turns import Turns
from ._watch import Watch
from ._webhook_sender import WebhookSender
from .agents import AgentRegistry
from .sessions import PostgresSessionService

type Backoff = Callable[[Job], float]
"""Says how many seconds a failed job waits before it is tried again."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts that a job of an agent runs with.

    Attributes:
        oban: The Oban that fetched the job.
        pool: Its connections.
        prefix: The schema of the tables.
        agents: What jobs may name; None in a client that only enqueues, where nothing
            is known about agents.
        sessions: ADK's sessions.
        results: How jobs ended.
        steps: What their agents have done.
        turns: Reads sessions for jobs, and commits what they add.
        approvals: What agents ask people.
        order: Wakes jobs that wait for others of their session.
        cancels: Cancels jobs.
        retries: Lets jobs go on that have ended.
        events: What happened in them.
        partials: Tells the text that models are in the middle of.
        watch: Who watches which job.
        fan_ins: Batches of jobs after whose last one another starts.
        liveness: The locks of what fetches jobs; None in a client.
        artifacts: ADK's artifact service.
        memory: ADK's memory service.
        credentials: ADK's credential service.
        backoff: The user's own backoff; None for the default.
        tool_threads: How many threads there are for tools that block.
        tool_timeout: How many seconds a tool gets; for all, or by name.
        model_timeout: How many seconds a model call gets; for all, or by model.
        job_timeout: How many seconds an attempt gets that does not say itself.
        retry_error_codes: Which error codes of a model's answer are tried again.
        approval_timeout: How many seconds people have to answer, where jobs say none.
        on_approval_timeout: What becomes of a question after that.
        webhooks: Posts webhooks.
    """

    oban: Oban
    pool: AsyncConnectionPool
    prefix: str
    agents: AgentRegistry | None
    sessions: PostgresSessionService
    results: Results
    steps: Steps
    turns: Turns
    approvals: Approvals
    order: Order
    cancels: Cancels
    retries: Retries
    events: EventLog
    partials: Partials
    watch: Watch
    fan_ins: FanIns
    liveness: Liveness | None = None
    artifacts: BaseArtifactService | None = None
    memory: BaseMemoryService | None = None
    credentials: BaseCredentialService | None = None
    backoff: Backoff | None = None
    tool_threads: int = 32
    tool_timeout: float | Mapping[str, float] | None = None
    model_timeout: float | Mapping[str, float] | None = None
    job_timeout: float | None = None
    retry_error_codes: frozenset[str] = frozenset()
    approval_timeout: float | None = None
    on_approval_timeout: str = "reject"
    webhooks: WebhookSender = field(default_factory=WebhookSender)
