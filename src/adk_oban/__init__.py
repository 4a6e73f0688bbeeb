"""Google ADK agents as durable background jobs on PostgreSQL, powered by Oban."""

from ._clock import now
from .effects import idempotency_key, once, transactional
from .errors import AdkObanError
from .jobs import AgentJob
from .results import AgentResult
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
    "idempotency_key",
    "now",
    "once",
    "transactional",
]
