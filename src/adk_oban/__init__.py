"""Google ADK agents as durable background jobs on PostgreSQL, powered by Oban."""

from .errors import AdkObanError
from .jobs import AgentJob, AgentResult
from .runtime import AdkOban
from .scheduled import Schedule, ScheduledJob
from .sessions import PostgresSessionService
from .worker import AgentWorker

__all__ = [
    "AdkOban",
    "AdkObanError",
    "AgentJob",
    "AgentResult",
    "AgentWorker",
    "PostgresSessionService",
    "Schedule",
    "ScheduledJob",
]
