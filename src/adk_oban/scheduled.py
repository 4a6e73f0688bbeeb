"""Jobs that run later, and schedules that make them again and again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Unpack

from google.adk.agents.run_config import RunConfig
from psycopg import AsyncConnection

from . import _oban
from ._args import Message, encode_message, encode_run_config
from ._arrival import Arrival
from ._cron import check_expression, check_timezone
from ._kind import SCHEDULED, Kind
from ._on_complete import OnComplete, encode
from ._options import Options
from .jobs import AgentJob, agent_of
from .worker import AgentName, AgentWorker, agent_args, running

type Missed = Literal["skip", "run_once"]
"""What becomes of ticks at which no worker ran."""


class ScheduledJob(AgentWorker):
    """Runs an ADK agent as a job of the queue `scheduled`, without a user behind it.

    A row may name it `adk_oban.scheduled.ScheduledJob` or, as the origin writes it,
    `ADK.Oban.ScheduledJob`. Beside the args of `AgentWorker` it knows a flat inline
    agent: `agent_name`, `model` and `instruction`.
    """

    kind: ClassVar[Kind] = SCHEDULED

    @classmethod
    async def schedule(
        cls,
        agent_or_args: AgentName,
        *,
        user_id: str | None = None,
        message: Message | None = None,
        app_name: str | None = None,
        session_id: str | None = None,
        runner_opts: Mapping[str, Any] | RunConfig | None = None,
        on_complete: OnComplete | None = None,
        conn: AsyncConnection | Any = None,
        oban: str = "Oban",
        **options: Unpack[Options],
    ) -> AgentJob:
        """Insert a job that runs an agent, now or later.

        Args:
            agent_or_args: An agent as `AgentWorker.enqueue` takes it, or the args of a
                job, which may describe an inline agent by `agent_name`, `model` and
                `instruction`.
            user_id: ADK's user id (default `"system"`).
            message: The message (default `"Run scheduled task"`).
            app_name: ADK's app name (default: the `App`'s own, else
                `"adk_scheduled"`).
            session_id: ADK's session id (default: `"scheduled-"` and 11 random
                characters).
            runner_opts: Fields of ADK's `RunConfig`.
            on_complete: What follows on its end, as of `AgentWorker.enqueue`.
            conn: A psycopg connection or SQLAlchemy session of the caller's: the job is
                inserted in its transaction.
            oban: The name of the `AdkOban` to insert with (default `"Oban"`).
            **options: `queue` (default `"scheduled"`), `max_attempts` (3), `priority`
                (2), `scheduled_at`, `schedule_in`, `tags`, `meta`.

        Raises:
            RuntimeError: No `AdkOban` of this name runs in this process.
            TypeError: An argument is of the wrong type, or unknown.
            ValueError: One is empty, out of range, or not JSON that PostgreSQL can
                hold. The message names it. Nothing is inserted.

        Example:
            >>> await ScheduledJob.schedule("cleaner", schedule_in=3600)
        """
        services = running(oban)
        if isinstance(agent_or_args, Mapping) and not _is_config(agent_or_args):
            args = dict(agent_or_args)
        else:
            args = agent_args(agent_or_args, services)
        said = {
            "user_id": user_id,
            "message": None if message is None else encode_message(message),
            "app_name": app_name,
            "session_id": session_id,
            "runner_opts": encode_run_config(runner_opts) or None,
            "on_complete": encode(on_complete),
        }
        args.update({key: value for key, value in said.items() if value is not None})
        job = cls.new(args, oban=oban, **options)
        arrived = await Arrival.of(job).enter(services, conn=conn)
        return AgentJob.of(arrived, services)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A recurring job: at each tick of a cron expression an agent gets a message.

    Declared in code, `AdkOban(schedules=[...])`, or added at run time,
    `jobs.schedules.add(...)`. However many nodes there are, each tick makes one job.

    Attributes:
        expression: Five cron fields (minute hour day month weekday), six with seconds
            first, or a nickname such as `@daily`.
        agent: A registered name, `"module:name"`, or an inline config.
        message: The message (default `"Run scheduled task"`).
        timezone: An IANA name (default `"UTC"`). With daylight saving, a tick in the
            hour that is skipped comes right after it, and one in the repeated hour
            comes once.
        name: What it is known by (default: the agent's name and the expression).
        missed: What becomes of ticks that came while no worker ran, once they are more
            than a minute late: `"skip"` (default) lets them go, `"run_once"` makes one
            job for all of them.
        user_id: ADK's user id (default `"system"`).
        session_id: ADK's session id for all its jobs (default: a new one each time).
        app_name: ADK's app name (default `"adk_scheduled"`).
        runner_opts: Fields of ADK's `RunConfig`.
        on_complete: What follows on the end of each job, as of `AgentWorker.enqueue`.
        queue: The jobs' queue (default `"scheduled"`).
        max_attempts: How many attempts each job has (default 3).
        priority: 0 (first) to 9 (default 2).
        tags: Tags of the jobs.
        meta: Meta of the jobs.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A value is wrong: the message names it.

    Example:
        >>> Schedule("0 9 * * MON-FRI", "reporter", timezone="Europe/Paris")
    """

    expression: str = field(kw_only=False)
    agent: str | Mapping[str, Any] = field(kw_only=False)
    message: Message = SCHEDULED.message or ""
    timezone: str = "UTC"
    name: str = ""
    missed: Missed = "skip"
    user_id: str = SCHEDULED.user_id or ""
    session_id: str | None = None
    app_name: str | None = None
    runner_opts: Mapping[str, Any] | RunConfig | None = None
    on_complete: OnComplete | None = None
    queue: str = SCHEDULED.options.queue
    max_attempts: int = SCHEDULED.options.max_attempts
    priority: int = SCHEDULED.options.priority
    tags: Iterable[str] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_expression(self.expression)
        check_timezone(self.timezone)
        if self.missed not in ("skip", "run_once"):
            raise ValueError(
                f"missed must be 'skip' or 'run_once', got {self.missed!r}"
            )
        if not isinstance(self.agent, str | Mapping):
            raise TypeError(
                "a schedule's agent must be a registered name, 'module:name' or an "
                f"inline config, got {self.agent!r}"
            )
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, got {self.name!r}")
        if not self.name:
            default = f"{agent_of(self.args())} {self.expression}"
            object.__setattr__(self, "name", default)
        self.args()
        self.options()

    def args(self) -> dict[str, Any]:
        """Return the args of its jobs, checked."""
        key = "agent_module" if isinstance(self.agent, str) else "agent_config"
        given = {
            key: self.agent,
            "user_id": self.user_id,
            "message": encode_message(self.message),
            "session_id": self.session_id,
            "app_name": self.app_name,
            "runner_opts": encode_run_config(self.runner_opts),
            "on_complete": encode(self.on_complete),
        }
        return SCHEDULED.parse(given).to_json()

    def options(self) -> dict[str, Any]:
        """Return the options of its jobs, checked, as JSON."""
        checked = SCHEDULED.options.with_(
            queue=self.queue,
            max_attempts=self.max_attempts,
            priority=self.priority,
            tags=self.tags,
            meta=self.meta,
        ).to_oban()
        del checked["scheduled_at"]
        return checked


def _is_config(value: Mapping[str, Any]) -> bool:
    """Whether a mapping is an inline agent rather than the args of a job."""
    return "model" in value and not {"agent_name", "message", "user_id"} & set(value)


_oban.register(ScheduledJob, "ADK.Oban.ScheduledJob")
