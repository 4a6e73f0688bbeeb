"""The Oban worker whose jobs are agents that answer a message."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, ClassVar, Unpack

from google.adk.agents.run_config import RunConfig
from oban import Cancel, Job, Snooze
from oban.worker import worker_name
from psycopg import AsyncConnection

from . import _oban
from ._args import Message, encode_message, encode_run_config, new_session_id
from ._arrival import Arrival
from ._attempt import RETRY_AFTER, Attempt
from ._kind import AGENT, Kind
from ._on_complete import OnComplete, Step, Then, encode, nested, parse_all
from ._options import Options
from ._order import WAITS
from ._services import Services
from ._unique import UniqueKey
from .agents import Agent
from .jobs import AgentJob
from .webhooks import Webhook

logger = logging.getLogger(__name__)

type AgentName = str | ModuleType | Agent | Mapping[str, Any]
"""How a caller says which agent: a name, a module, a registered object, or a config."""


class AgentWorker:
    """Runs an ADK agent as an Oban job.

    A row may name it `adk_oban.worker.AgentWorker` or, as the origin writes it,
    `ADK.Oban.AgentWorker`.
    """

    kind: ClassVar[Kind] = AGENT
    # What Oban looks for in a worker that it did not decorate itself.
    _opts: ClassVar[dict[str, Any]] = {}
    _oban_name: ClassVar[str] = "Oban"

    @classmethod
    def new(
        cls,
        args: Mapping[str, Any],
        /,
        *,
        oban: str = "Oban",
        **options: Unpack[Options],
    ) -> Job:
        """Return a job that is yet to be inserted, by Oban's `enqueue` or by ours.

        Args:
            args: `user_id`, `message`, and `agent_module` (a registered name, a module
                or `"module:name"`) or `agent_config` (an inline agent); optionally
                `session_id`, `app_name`, `runner_opts` (fields of ADK's `RunConfig`),
                `ordering`, `when_busy`, `on_cancel` and `timeout`, as of `enqueue`.
            oban: The name of the `AdkOban` whose agents it may name, where one runs in
                this process (default `"Oban"`).
            **options: `queue` (default `"agents"`), `max_attempts` (3), `priority` (2,
                of 0 to 9), `scheduled_at`, `schedule_in`, `tags`, `meta`.

        Raises:
            TypeError: An argument is of the wrong type, or unknown.
            ValueError: One is missing, empty, out of range, or not JSON that PostgreSQL
                can hold. The message names it.
            UnknownAgentError: The agent is neither registered nor allowed.

        Example:
            >>> job = AgentWorker.new(
            ...     {"agent_module": "helper", "user_id": "u1", "message": "Hello"},
            ...     schedule_in=3600,
            ... )
            >>> await oban.enqueue(job)
        """
        parsed = cls.kind.parse(args)
        full = parsed.to_json()
        full.setdefault("session_id", new_session_id(cls.kind.session))
        services: Services | None = _oban.services(oban)
        registry = None if services is None else services.agents
        # Where nothing is known about agents, the worker gives the app its name.
        if parsed.agent_config is not None:
            if registry is not None:
                registry.check_config(parsed.agent_config)
            full.setdefault("app_name", cls.kind.app_name)
        elif registry is not None:
            own = registry.app_name_of(parsed.agent_module)
            full.setdefault("app_name", own or cls.kind.app_name)
        if parsed.on_complete is not None:
            steps = parse_all(parsed.on_complete)
            full["on_complete"] = encode(steps)
            _check_steps(steps, services)
        checked = cls.kind.options.with_(**options)
        return Job(worker_name(cls), args=full, **checked.to_oban())

    @classmethod
    async def enqueue(
        cls,
        agent: AgentName,
        user_id: str,
        message: Message,
        *,
        app_name: str | None = None,
        session_id: str | None = None,
        runner_opts: Mapping[str, Any] | RunConfig | None = None,
        ordering: str | None = None,
        when_busy: str | None = None,
        unique: UniqueKey | None = None,
        on_cancel: str | None = None,
        timeout: float | None = None,
        streaming: bool | None = None,
        approval_timeout: float | None = None,
        on_approval_timeout: str | None = None,
        on_complete: OnComplete | None = None,
        conn: AsyncConnection | Any = None,
        oban: str = "Oban",
        **options: Unpack[Options],
    ) -> AgentJob:
        """Enqueue an agent and a message.

        Args:
            agent: A registered name, a module or its name, `"module:name"`, an agent
                object that is registered, or an inline config.
            user_id: ADK's user id, at most 128 characters.
            message: Text, or an ADK `Content` of several parts; at most 8 MiB.
            app_name: ADK's app name (default: the `App`'s own, else `"adk_oban"`).
            session_id: ADK's session id (default: `"oban-"` and 11 random characters).
                The session is created when it is missing.
            runner_opts: Fields of ADK's `RunConfig`.
            ordering: `"session"` (default): after the earlier jobs of its session, in
                the order in which they were enqueued; `"none"`: at once.
            when_busy: What becomes of it when its session is busy: an earlier job has
                not ended, and is not just planned for later. `"enqueue"` (default): it
                waits. `"reject"`: it is not enqueued. `"interrupt"`: the job that runs,
                or waits for a person, is stopped, and keeps its part; this one is next,
                before those that wait. `"rollback"`: the same, and that job leaves no
                trace. `"merge"`: it is added to the message that waits last, if that
                one may be merged too and all else is the same.
            unique: A key, at most 200 characters, or a key and a period in seconds or
                as a `timedelta`. Enqueued again within the period (default: as long as
                the job has not been pruned), the job is returned that is there,
                whatever its args; not one that was cancelled or discarded.
            on_cancel: `"discard"` (default): cancelled, it leaves its session as it
                was; `"keep"`: what it has done so far stays.
            timeout: How many seconds an attempt may take (default: as many as it
                takes, or `AdkOban(job_timeout=...)`).
            streaming: Whether those who follow it hear text as the model makes it
                (default False).
            approval_timeout: How many seconds people have to answer what its agent asks
                (default: as many as it takes, or `AdkOban(approval_timeout=...)`).
            on_approval_timeout: What becomes of a question that nobody has answered by
                then: `"reject"` (default), `"approve"`, or `"cancel"` the job. What
                is no yes or no cannot be approved, and is rejected.
            on_complete: What follows on its end, one thing or a list: a `Webhook`, a
                `Then` or a `FanIn` of `adk_oban.on_complete`, or their JSON.
            conn: A psycopg connection or SQLAlchemy session of the caller's: the job is
                inserted in its transaction, and is there when that commits.
            oban: The name of the `AdkOban` to enqueue with (default `"Oban"`).
            **options: `queue` (default `"agents"`), `max_attempts` (3), `priority` (2,
                of 0 to 9), `scheduled_at` (an aware `datetime`), `schedule_in` (seconds
                or a `timedelta`), `tags`, `meta`.

        Returns:
            The job; `await job.result()` waits for its answer.

        Raises:
            RuntimeError: No `AdkOban` of this name runs in this process.
            SessionBusyError: The session is busy, and `when_busy` is `"reject"`.
            TypeError: An argument is of the wrong type, or unknown.
            ValueError: One is missing, empty, out of range, or not JSON that PostgreSQL
                can hold. The message names it. Nothing is enqueued.
            UnknownAgentError: The agent is neither registered nor allowed.

        Example:
            >>> job = await AgentWorker.enqueue("helper", "user-1", "Summarize this")
            >>> result = await job.result(timeout=60)
        """
        services = running(oban)
        given = {
            **agent_args(agent, services),
            "user_id": user_id,
            "message": encode_message(message),
            "app_name": app_name,
            "session_id": session_id,
            "runner_opts": encode_run_config(runner_opts),
            "ordering": ordering,
            "when_busy": when_busy,
            "on_cancel": on_cancel,
            "timeout": timeout,
            "streaming": streaming,
            "approval_timeout": approval_timeout,
            "on_approval_timeout": on_approval_timeout,
            "on_complete": encode(on_complete),
        }
        arrival = Arrival.of(cls.new(given, oban=oban, **options), unique)
        return AgentJob.of(await arrival.enter(services, conn=conn), services)

    async def process(self, job: Job) -> Cancel | Snooze | None:
        """Run one attempt of a job; Oban calls this."""
        services: Services | None = _oban.services_of(job)
        if services is None:
            logger.error(
                "job %s is an agent's, and no AdkOban runs in this process: leaving it "
                "for one that does. Start workers with AdkOban or 'adk-oban work', or "
                "let plain Oban have other queues than %r",
                job.id,
                job.queue,
            )
            return Snooze(10, {WAITS: "worker"})
        return await Attempt(job, self.kind, services).run()

    def backoff(self, job: Job) -> int:
        """Return how many seconds a failed job waits; Oban calls this."""
        services: Services | None = _oban.services_of(job)
        if services is not None and services.backoff is not None:
            try:
                return max(0, math.ceil(services.backoff(job)))
            except Exception:
                # Failing here would leave the job executing for ever.
                logger.exception("job %s: its backoff failed, Oban's is used", job.id)
        asked = job.extra.get(RETRY_AFTER) or 0
        return max(math.ceil(asked), _oban.default_backoff(job))


def running(name: str) -> Services:
    """Return the services of the AdkOban of this name.

    Raises:
        RuntimeError: None runs in this process.
    """
    services: Services | None = _oban.services(name)
    if services is None:
        raise RuntimeError(
            f"no AdkOban named {name!r} runs in this process; enqueue inside "
            "'async with AdkOban(...)', which without queues is a mere client"
        )
    return services


def agent_args(agent: object, services: Services) -> dict[str, Any]:
    """Return the args that name an agent.

    Raises:
        TypeError: It is nothing that can be named.
    """
    match agent:
        case str():
            return {"agent_module": agent}
        case ModuleType():
            return {"agent_module": agent.__name__}
        case Mapping():
            return {"agent_config": dict(agent)}
    if services.agents is None:
        raise TypeError(
            f"agent must be a name, a module or an inline config, got {agent!r}; an "
            "agent object can be named only where it is registered: AdkOban(agents=...)"
        )
    return {"agent_module": services.agents.name_of(agent)}


def _check_steps(steps: Iterable[Step], services: Services | None) -> None:
    """Refuse what follows, as far as this process knows that it could not."""
    if services is None:
        return
    for step in nested(steps):
        match step:
            case Webhook(url) if _oban.slots_of(services.oban) and not (
                services.webhooks.signs
            ):
                raise ValueError(
                    f"webhook {url!r} could not be signed, since this AdkOban works "
                    "without a webhook_secret; set ADK_OBAN_WEBHOOK_SECRET, or "
                    "AdkOban(webhook_secret=...)"
                )
            case Then(agent=str(name)) if services.agents is not None:
                services.agents.check(name)
            case Then(agent=Mapping() as config) if services.agents is not None:
                services.agents.check_config(config)


_oban.register(AgentWorker, "ADK.Oban.AgentWorker")
