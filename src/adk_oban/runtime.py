"""AdkOban: a pool, an Oban and our own loops, started and stopped together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Self

from google.adk.artifacts import BaseArtifactService, InMemoryArtifactService
from google.adk.auth.credential_service.base_credential_service import (
    BaseCredentialService,
)
from google.adk.memory import BaseMemoryService
from oban import Oban
from psycopg_pool import AsyncConnectionPool

from . import _durable, _oban, schema
from ._approvals import Approvals
from ._cancels import Cancels
from ._checks import check_limits, check_sources
from ._desk import Desk, not_started
from ._event_log import EventLog
from ._fan_ins import FanIns
from ._hand_back import HandBack
from ._inline import Tool
from ._leftovers import Leftovers
from ._liveness import Liveness
from ._loop import Loop
from ._order import Order
from ._partials import Partials
from ._pool import Connect, check_direct, direct, open_pool
from ._query import validate_prefix
from ._rescuer import Rescuer
from ._results import Results
from ._retries import Retries
from ._schedules import Schedules
from ._services import Backoff, Services
from ._steps import Steps
from ._sweeper import Sweeper
from ._ticker import Ticker
from ._turns import Turns
from ._warm_up import warm_up
from ._watch import Watch
from ._webhook_sender import WebhookSender
from .agents import AgentRegistry, Agents
from .config import load_settings
from .on_complete import FollowUp
from .scheduled import Schedule, ScheduledJob
from .sessions import PostgresSessionService
from .webhooks import parse_secrets
from .worker import AgentWorker


class AdkOban(Desk):
    """Runs ADK agents as Oban jobs inside your own process, or only enqueues them.

    Use it as an async context manager, for as long as the process works. With
    `queues` it is a worker; without, a client.

    Args:
        dsn: Where the database is (default: `ADK_OBAN_DSN`, then `dsn` in
            `adk-oban.toml` or `[tool.adk-oban]`).
        direct_dsn: Where the same database is without a pooler such as pgbouncer in
            between, which listening and locks need (default: `ADK_OBAN_DIRECT_DSN`,
            then `direct_dsn` in the file, then where the pool connects to).
        pool: An open pool of the caller's, instead of `dsn`. It is not closed.
        oban: An Oban of the caller's, instead of `dsn`, `pool`, `queues` and the other
            options of Oban's. It is neither started nor stopped; its jobs of agents run
            while this object does.
        queues: Names of queues and how many jobs each runs at once, or Oban's dicts.
        agents: What jobs may name: a mapping of names to agents, `App`s, factories or
            modules, or a list of modules, of names of packages that may be imported,
            and of agents folders (`pathlib.Path`). A client that is given none takes
            every name, and leaves it to the worker to refuse it.
        tools: What inline configs may name: a mapping, or a list of functions and ADK
            tools.
        schedules: What runs again and again; those that this name declared before and
            are no longer there are removed. None (default) leaves them all alone.
        prefix: The PostgreSQL schema of the tables (default `"public"`).
        name: Oban's name of this instance (default `"Oban"`); a second one in the same
            process needs its own, as do two apps with schedules in one database.
        artifact_service: ADK's artifacts (default: in memory, gone with the process).
        memory_service: ADK's memory (default: none).
        credential_service: ADK's credentials (default: none).
        backoff: Says how many seconds a failed job waits, given the `oban.Job`
            (default: Oban's, 15 seconds and more, growing exponentially, and as long
            as the model's service asks for, up to an hour).
        result_ttl: How long results are kept (default 7 days); Oban prunes the jobs
            themselves after a day.
        step_ttl: How long the steps of a job are kept after it has ended, for people to
            read (default 1 day).
        tool_timeout: How many seconds a tool gets, for all tools or by name (default:
            as many as it takes). Then it has failed; a plain function goes on in its
            thread, since nothing can stop it.
        model_timeout: How many seconds a model call gets from its start to its last
            token, for all models or by name (default: as many as it takes). Then its
            connection is closed, and the attempt fails and is tried again.
        job_timeout: How many seconds an attempt gets that does not say itself (default:
            as many as it takes).
        retry_error_codes: Which error codes of a model's answer, such as
            `"MODEL_RETURNED_NO_CONTENT"` or `"SAFETY"`, fail the attempt, so that it is
            tried again (default none: the job completes, and its result has the code).
        webhook_secret: What webhooks are signed with: `"whsec_"` and base64, or a list
            of them that all sign, while it is changed (default:
            `ADK_OBAN_WEBHOOK_SECRET`, then `webhook_secret` in the file).
        approval_timeout: How many seconds people have to answer what an agent asks
            (default: as many as it takes), where a job does not say itself.
        on_approval_timeout: What becomes of a question that nobody has answered by
            then: `"reject"` (default), `"approve"`, or `"cancel"` the job.
        pool_size: How many connections there may be (default 10), beside the one
            that listens and the one that holds the locks.
        lock_timeout: After how many seconds the jobs of a process that is stopped or
            cut off are given to others (default 10, 1 at least; those of one that died
            are within about a second). Needs PostgreSQL 14.
        **oban_options: Passed on to `oban.Oban`: `node`, `pruner`, `stager`,
            `shutdown_grace_period` (seconds, default 15), `metrics`, `lifeline` (its
            `rescue_after` is only for jobs of nodes without adk-oban or with an older
            one), …

    Raises:
        DatabaseUnavailableError: At the start: no connection.
        NotMigratedError: At the start: run `adk-oban migrate up`.
        RuntimeError: At the start: one of this name runs in the process already.
        SchemaVersionError: At the start: the tables are of another version.
        TypeError: An argument is of the wrong type.
        ValueError: An argument is wrong, or does not go with another.

    Example:
        >>> async with AdkOban(
        ...     "postgresql://localhost/my_app",
        ...     queues={"agents": 10, "scheduled": 5},
        ...     agents={"helper": helper_agent},
        ... ) as jobs:
        ...     job = await AgentWorker.enqueue("helper", "user-1", "Hello")
        ...     print((await job.result(timeout=60)).text)
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        direct_dsn: str | None = None,
        pool: AsyncConnectionPool | None = None,
        oban: Oban | None = None,
        queues: Mapping[str, int | dict[str, Any]] | None = None,
        agents: Agents | None = None,
        tools: Mapping[str, Tool] | Iterable[Tool] = (),
        schedules: Sequence[Schedule] | None = None,
        prefix: str | None = None,
        name: str | None = None,
        artifact_service: BaseArtifactService | None = None,
        memory_service: BaseMemoryService | None = None,
        credential_service: BaseCredentialService | None = None,
        backoff: Backoff | None = None,
        result_ttl: timedelta = timedelta(days=7),
        step_ttl: timedelta = timedelta(days=1),
        tool_timeout: float | Mapping[str, float] | None = None,
        model_timeout: float | Mapping[str, float] | None = None,
        job_timeout: float | None = None,
        retry_error_codes: Iterable[str] = (),
        approval_timeout: float | None = None,
        on_approval_timeout: str = "reject",
        webhook_secret: str | Iterable[str] | None = None,
        pool_size: int = 10,
        lock_timeout: float = 10.0,
        **oban_options: Any,
    ) -> None:
        own = {"queues": queues, "prefix": prefix, "name": name, **oban_options}
        check_sources(dsn=dsn, pool=pool, oban=oban, own=own)
        check_limits(
            result_ttl=result_ttl,
            step_ttl=step_ttl,
            tool_timeout=tool_timeout,
            model_timeout=model_timeout,
            job_timeout=job_timeout,
            retry_error_codes=retry_error_codes,
            approval_timeout=approval_timeout,
            on_approval_timeout=on_approval_timeout,
            pool_size=pool_size,
            lock_timeout=lock_timeout,
        )
        settings = load_settings()
        self._dsn = dsn or settings.dsn
        self._direct_dsn = direct_dsn or settings.direct_dsn
        self._lock_timeout = lock_timeout
        self._given_pool = pool
        self._given_oban = oban
        self._queues = dict(queues or {})
        self._prefix = prefix or settings.prefix
        if oban is not None:
            self._prefix = _oban.prefix_of(oban)
        validate_prefix(self._prefix)
        self._name = _oban.name_of(oban) if oban else name or "Oban"
        self._registry: AgentRegistry | None = None
        if agents is not None or queues or oban:
            self._registry = AgentRegistry(agents or {}, tools=tools)
        self._declared = schedules
        self._artifacts = artifact_service or InMemoryArtifactService()
        self._memory = memory_service
        self._credentials = credential_service
        self._backoff = backoff
        self._result_ttl = result_ttl
        self._step_ttl = step_ttl
        self._tool_timeout = tool_timeout
        self._model_timeout = model_timeout
        self._job_timeout = job_timeout
        self._retry_error_codes = frozenset(retry_error_codes)
        self._approval_timeout = approval_timeout
        self._on_approval_timeout = on_approval_timeout
        self._webhook_keys = parse_secrets(webhook_secret or settings.webhook_secret)
        self._pool_size = pool_size
        self._oban_options = oban_options
        self._stack: AsyncExitStack | None = None
        self._services: Services | None = None
        self._hand_back: HandBack | None = None
        self._hurried = False
        self._schedules: Schedules | None = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> Self:
        """Open the pool, check the schema, and begin to work.

        Raises:
            DatabaseUnavailableError: There is no connection.
            NotMigratedError: Tables are missing.
            RuntimeError: It runs already, or another of its name does.
            SchemaVersionError: The tables are of another version.
        """
        if self._stack is not None:
            raise RuntimeError(f"the AdkOban named {self._name!r} runs already")
        async with AsyncExitStack() as stack:
            pool = await self._open_pool(stack)
            connect = direct(pool, self._direct_dsn)
            async with pool.connection() as conn:
                await schema.check(conn, prefix=self._prefix)
                await check_direct(connect, conn)
            if _oban.services(self._name) is not None:
                raise RuntimeError(
                    f"another AdkOban named {self._name!r} runs in this process; give "
                    "this one a name of its own: AdkOban(name=...)"
                )
            oban = self._given_oban or _oban.make(
                direct_dsn=self._direct_dsn,
                pool=pool,
                queues=self._queues,
                prefix=self._prefix,
                name=self._name,
                **self._oban_options,
            )
            await self._start_parts(stack, oban, pool, connect)
            self._stack = stack.pop_all()
        return self

    async def stop(self) -> None:
        """Stop in order: schedules, queues, pool.

        Running jobs get the time of grace; those that still run then are handed back,
        and this attempt of theirs does not count. Safe before `start`, and twice.
        """
        stack, self._stack = self._stack, None
        if stack is not None:
            if self._hurried and self._hand_back is not None:
                self._hand_back.hurry()
            await stack.aclose()

    def hurry(self) -> None:
        """Give running jobs no time of grace in the `stop` under way, or the next."""
        self._hurried = True
        if self._stack is None and self._hand_back is not None:
            self._hand_back.hurry()

    @property
    def oban(self) -> Oban:
        """The Oban inside, for its own functions: queues, retries, cancelling."""
        return self._running.oban

    @property
    def sessions(self) -> PostgresSessionService:
        """The ADK session service that jobs use, for the app's own Runners."""
        return self._running.sessions

    @property
    def schedules(self) -> Schedules:
        """The schedules: add, list, pause, resume, remove."""
        if self._schedules is None:
            raise not_started()
        return self._schedules

    async def _open_pool(self, stack: AsyncExitStack) -> AsyncConnectionPool:
        if self._given_oban is not None:
            return _oban.pool_of(self._given_oban)
        if self._given_pool is not None:
            return self._given_pool
        if self._dsn is None:
            raise ValueError(
                "AdkOban needs a dsn, a pool or an Oban: pass one, set ADK_OBAN_DSN, "
                "or write dsn into adk-oban.toml or [tool.adk-oban]"
            )
        pool = await open_pool(self._dsn, max_size=self._pool_size)
        stack.push_async_callback(pool.close)
        return pool

    async def _start_parts(
        self,
        stack: AsyncExitStack,
        oban: Oban,
        pool: AsyncConnectionPool,
        connect: Connect,
    ) -> None:
        _durable.install()
        if _oban.slots_of(oban):
            await warm_up()
        results, watch = Results(pool, self._prefix), Watch(oban)
        liveness, hand_back, workers = self._keepers(oban, pool, connect)
        steps, events = Steps(pool, self._prefix), EventLog(pool, self._prefix)
        stack.callback(steps.shown.close)  # once jobs have been handed back
        webhooks = WebhookSender(self._webhook_keys)
        stack.push_async_callback(webhooks.close)
        order = Order(pool, self._prefix)
        self._services = Services(
            oban=oban,
            pool=pool,
            prefix=self._prefix,
            agents=self._registry,
            sessions=PostgresSessionService(pool, prefix=self._prefix),
            results=results,
            steps=steps,
            turns=Turns(pool, self._prefix),
            order=order,
            cancels=Cancels(pool, self._prefix, order),
            retries=Retries(pool, self._prefix),
            events=events,
            partials=Partials(pool, self._prefix, steps.shown),
            watch=watch,
            fan_ins=FanIns(pool, self._prefix),
            liveness=liveness,
            artifacts=self._artifacts,
            memory=self._memory,
            credentials=self._credentials,
            backoff=self._backoff,
            tool_threads=max(_TOOL_THREADS, _oban.slots_of(oban)),
            tool_timeout=self._tool_timeout,
            model_timeout=self._model_timeout,
            job_timeout=self._job_timeout,
            retry_error_codes=self._retry_error_codes,
            approval_timeout=self._approval_timeout,
            on_approval_timeout=self._on_approval_timeout,
            approvals=Approvals(pool, self._prefix, steps),
            webhooks=webhooks,
        )
        self._schedules = Schedules(pool, self._prefix, self._registry)
        if self._declared is not None:
            await self._schedules.declare(self._declared, by=self._name)
        # Before the first job is fetched, since each takes them along.
        _oban.bind(oban, self._services)
        stack.callback(_oban.unbind, oban)
        if liveness:
            stack.push_async_callback(liveness.stop)
            await liveness.start()
        self._hand_back, self._hurried = hand_back, False
        stack.push_async_callback(hand_back.run)
        if oban is not self._given_oban:
            await stack.enter_async_context(_oban.started(oban))
        parts: list[Loop | Watch] = [watch]
        if liveness:
            parts.append(Ticker(oban, pool, self._prefix))
            ttls = (self._result_ttl, self._step_ttl)
            fan_ins = self._services.fan_ins
            left = Leftovers(pool, self._prefix)
            parts.append(
                Sweeper(results, steps, *ttls, fan_ins=fan_ins, leftovers=left)
            )
            parts.append(Rescuer(self._services, liveness, hand_back, workers))
        for part in parts:
            stack.push_async_callback(part.stop)
            await part.start()
        if liveness:
            stack.callback(liveness.close)  # which is first when it stops

    def _keepers(
        self, oban: Oban, pool: AsyncConnectionPool, connect: Connect
    ) -> tuple[Liveness | None, HandBack, frozenset[str]]:
        goes_on = oban is self._given_oban
        workers = frozenset(
            name
            for made in (AgentWorker, ScheduledJob)
            for name in _oban.names_of(made)
        )
        ours = workers | {*_oban.names_of(FollowUp)}
        hand_back = HandBack(oban, pool, self._prefix, ours, goes_on=goes_on)
        liveness: Liveness | None = None
        if _oban.slots_of(oban):
            timeout = self._lock_timeout
            liveness = Liveness(
                oban, connect, self._prefix, lock_timeout=timeout, goes_on=goes_on
            )
        return liveness, hand_back, workers


# As many as there are slots, and this many at least: more wait than work.
_TOOL_THREADS = 32
