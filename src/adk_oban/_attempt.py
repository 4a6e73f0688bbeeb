"""One attempt of one job: its args, its agent, what it tells and what it leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from google.adk.agents.invocation_context import LlmCallsLimitExceededError
from google.adk.errors._stale_session_error import StaleSessionError
from oban import Cancel, Job, Snooze

from . import _oban
from ._abort import Abort
from ._answers import Answers
from ._args import AgentArgs
from ._clock import Clock, naive_utc, real_now
from ._invocation import Answer, Invocation, close_agent
from ._journal import Journal
from ._kind import Kind
from ._oban_queries import DONE, RETRIED
from ._order import NET, WAITS
from ._pauses import TALLY, Pauses
from ._report import Report
from ._retry_after import retry_after
from ._services import Services
from ._steps import Owner
from ._stops import Stops
from ._stream import Stream
from ._turn import Ask, Landing, Turn
from ._verdict import Asks, NotOwner, RefusedError, Stopped, Undecided
from .agents import AgentRegistry, FoundAgent
from .errors import SchemaVersionError, UnknownAgentError

logger = logging.getLogger(__name__)

RETRY_AFTER = "adk_oban_retry_after"
"""In a job's `extra`: the seconds that a model's service asked to wait."""

# How often an attempt runs again since its session was written meanwhile.
_MOVES = 10


class Attempt:
    """One attempt of one job.

    Args:
        job: The job, as it was fetched.
        kind: What it is: an agent's job or a scheduled one.
        services: What it runs with.
    """

    def __init__(self, job: Job, kind: Kind, services: Services) -> None:
        self._job = job
        self._kind = kind
        self._services = services
        self._report = Report(job, kind, services.results)
        self._owner = _owner(job)
        self._journal: Journal | None = None
        self._pauses = Pauses(job, self._owner, self._report, services)
        self._stops = Stops(job, self._owner, self._report, services)
        self._turn: Turn | None = None
        self._segment = 0
        self._told: set[tuple[str, int]] = set()

    async def run(self) -> Cancel | Snooze | None:
        """Run it: returns when the job completed or waits, or with why it ends.

        Raises:
            Exception: Whatever the agent raised; Oban retries or discards the job.
        """
        self._report.started()
        try:
            args = self._args()
            found = await self._agent(args)
            try:
                return await self._in_time(args, self._to_an_end(args, found))
            finally:
                await self._show_the_rest()
                if found.fresh:
                    await close_agent(found.agent, self._services)
        except RefusedError as refused:
            return await self._stops.cancel(str(refused))
        except Undecided as undecided:
            logger.warning("job %s waits for a person: %s", self._job.id, undecided)
            return await self._pauses.decide(self._segment)
        except Asks as asks:
            return await self._pauses.ask([asks.question], self._segment)
        except SchemaVersionError as error:
            # A worker of the other version can go on with it.
            logger.error("job %s waits for another worker: %s", self._job.id, error)
            self._report.failed(type(error).__name__, str(error))
            return Snooze(NET, {WAITS: "worker"})
        except NotOwner:
            # Oban's acknowledgement is fenced as well, so that nothing comes of it.
            logger.warning("job %s runs elsewhere by now: leaving it", self._job.id)
            return None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody has asked for it: it leaked out of the agent's own code.
            leaked = RuntimeError("the agent was cancelled from inside")
            await self._failed(leaked)
            raise leaked from error
        except Exception as error:
            if await self._is_undecided():
                # The body of a tool that runs once was cut off in the middle.
                self._report.failed(type(error).__name__, str(error))
                return await self._pauses.decide(self._segment)
            if _is_limit(error):
                # What is recorded counts on each attempt, so all of them end here.
                reason = f"{error}: see runner_opts.max_llm_calls"
                return await self._stops.cancel(reason)
            await self._failed(error)
            raise

    async def _show_the_rest(self) -> None:
        """Show what the agent did until here, before the job is given up."""
        task = asyncio.current_task()
        stopping = task is not None and task.cancelling()
        if self._turn is not None and self._turn.stream is not None and not stopping:
            await self._turn.stream.flush()

    async def _is_undecided(self) -> bool:
        if self._journal is None or not self._journal.begun:
            return False
        steps = await self._services.steps.of_job(self._owner.job_id)
        return any(step.state != "done" for step in steps)

    async def _in_time[T](self, args: AgentArgs, work: Coroutine[Any, Any, T]) -> T:
        seconds = args.timeout or self._services.job_timeout
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await work
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise TimeoutError(
                f"the attempt has not ended within {seconds:g} s (timeout=...); what "
                "it recorded is kept for the next one"
            ) from error

    async def _to_an_end(
        self, args: AgentArgs, found: FoundAgent
    ) -> Cancel | Snooze | None:
        try:
            return await self._drive(args, found)
        except Stopped:
            assert self._turn is not None  # noqa: S101  (it was read)
            left = self._journal.bodies.left if self._journal else []
            return await self._stops.stop(args, self._turn, left)

    async def _drive(
        self, args: AgentArgs, found: FoundAgent
    ) -> Cancel | Snooze | None:
        """Read the session, run the agent, commit the turn; again if it has moved."""
        self._settle_app_name(args, found)
        ask = Ask(
            job_id=self._owner.job_id,
            app_name=self._report.app_name,
            user_id=self._report.user_id,
            session_id=self._report.session_id,
            ordered=args.ordering != "none",
            config=args.run_config().get_session_config,
        )
        resumable, moves = False, 0
        while moves < _MOVES:
            turn = await self._begin(ask)
            if turn.completed:
                self._job.extra[RETRIED] = True
                return None
            if turn.waits:
                return Snooze(NET, {WAITS: "order"})
            if Answers(turn.approvals).missing:
                if (end := await self._pauses.settle()) is None:
                    continue
                return end
            resumable = resumable or turn.segment > 0
            answer = await self._answer(args, found, turn, resumable=resumable)
            if answer.questions and not answer.resumable:
                # From the journal once more, now that it pauses: ADK then notes where
                # its agents are, which it does not need of those that never wait.
                resumable = True
                self._told = self._journal.told if self._journal else set()
                continue
            if answer.questions:
                if end := await self._pauses.land(args, turn, answer):
                    return end
            elif await self._landed(turn, answer):
                return None
            moves += 1
        raise StaleSessionError(
            f"session {self._report.session_id!r} was written by somebody else during "
            f"each of {_MOVES} runs of the agent; what they recorded is kept for the "
            "next attempt"
        )

    async def _begin(self, ask: Ask) -> Turn:
        turn = await self._services.turns.begin(ask)
        if turn is None:
            raise NotOwner
        self._turn, self._segment = turn, turn.segment
        if turn.is_cancelled and not turn.completed:
            raise Stopped
        return turn

    def _args(self) -> AgentArgs:
        try:
            return self._kind.parse(self._job.args)
        except (TypeError, ValueError) as error:
            raise RefusedError(str(error)) from error

    async def _agent(self, args: AgentArgs) -> FoundAgent:
        registry = self._services.agents or AgentRegistry([])
        if args.agent_module is not None:
            try:
                return await registry.find(args.agent_module)
            except UnknownAgentError as error:
                raise RefusedError(str(error)) from error
        try:
            return registry.build(args.agent_config or {})
        except ValueError as error:
            raise RefusedError(str(error)) from error

    def _settle_app_name(self, args: AgentArgs, found: FoundAgent) -> None:
        if args.app_name is None and self._services.agents is not None:
            name = self._services.agents.app_name_of(args.agent_module, found.agent)
            self._report.app_name = name or self._report.app_name

    async def _answer(
        self, args: AgentArgs, found: FoundAgent, turn: Turn, *, resumable: bool
    ) -> Answer:
        answers = Answers(turn.approvals)
        clock = self._clock(turn)
        journal = self._journal = self._new_journal(turn, clock, answers)
        turn.stream = Stream(
            self._owner,
            self._services.steps.shown,
            self._services.partials,
            journal.tally,
            segment=turn.segment,
            known=turn.shown,
        )
        invocation = Invocation(
            agent=found.agent,
            app_name=self._report.app_name,
            user_id=self._report.user_id,
            session_id=self._report.session_id,
            message=args.content(),
            answers=answers,
            run_config=args.run_config(),
            resumable=resumable,
        )
        with clock.running(), journal.running():
            answer = await self._run(invocation, turn, journal)
        await self._check(answer, journal)
        return answer

    async def _run(
        self, invocation: Invocation, turn: Turn, journal: Journal
    ) -> Answer:
        asked = _oban.cancellation_of(self._job)
        abort = Abort(self._owner.job_id, asked, journal)
        try:
            answer = await abort.run(invocation.run(turn, self._services, abort.signal))
        except (asyncio.CancelledError, Stopped):
            raise
        except BaseException as error:
            if isinstance(error, Exception):
                await journal.forget_what_led_to(error)
            if journal.verdict is not None:  # agents in parallel raise groups
                raise journal.verdict from None
            raise
        if journal.verdict is not None:  # and the agent's code made an answer of it
            raise journal.verdict
        return answer

    def _clock(self, turn: Turn) -> Clock:
        began_at = turn.steps[0].began_at if turn.steps else real_now()
        inserted_at = naive_utc(self._job.inserted_at or real_now()).isoformat()
        # A part that was kept has its ids already.
        run = f"{self._job.id}:{inserted_at}:{turn.cancelled_at}"
        if turn.segment:
            run = f"{run}:{turn.segment}"
        return Clock(began_at, f"{self._services.prefix}:{run}")

    def _new_journal(self, turn: Turn, clock: Clock, answers: Answers) -> Journal:
        return Journal(
            self._owner,
            self._services.steps,
            turn.steps,
            clock,
            tool_timeout=self._services.tool_timeout,
            model_timeout=self._services.model_timeout,
            written=self._journal.written if self._journal else (),
            told=self._told,
            segment=turn.segment,
            answers=answers,
            tally=self._report.resumed(self._job.meta.get(TALLY) or {}),
        )

    async def _check(self, answer: Answer, journal: Journal) -> None:
        """Refuse an end that is none, or that is to be tried again."""
        if not answer.is_outcome:
            raise RuntimeError(
                f"agent {self._report.agent!r} stopped without an answer: its last "
                f"event is {_shown(answer)}"
            )
        code = answer.error_code
        again = self._job.attempt < self._job.max_attempts
        if code in self._services.retry_error_codes and again:
            await journal.forget_last_answer()
            message = answer.final.error_message if answer.final else None
            raise RuntimeError(f"the model ended with {code}: {message or 'no reason'}")

    async def _landed(self, turn: Turn, answer: Answer) -> bool:
        """Commit the turn and complete the job; return False if the session moved.

        Raises:
            NotOwner: The job is somebody else's; nothing was written.
            Stopped: It is to be cancelled; nothing was written.
        """
        outcome = self._report.outcome(answer)
        landed = await self._services.turns.land(Landing(self._owner, turn, outcome))
        match landed.status:
            case "moved":
                return False
            case "lost":
                raise NotOwner
            case "cancelled":
                raise Stopped
        self._job.extra[DONE] = True
        self._report.completed(answer)
        if landed.has_next:
            await self._services.order.settle([self._owner.job_id])
        return True

    async def _failed(self, error: Exception) -> None:
        self._report.failed(type(error).__name__, str(error))
        self._job.extra[RETRY_AFTER] = retry_after(error)
        if self._job.attempt >= self._job.max_attempts:
            await self._report.keep("discarded", f"{type(error).__name__}: {error}")


def _owner(job: Job) -> Owner:
    attempted_at = naive_utc(job.attempted_at or real_now())
    return Owner(job.id or 0, attempted_at, job.attempt)


def _is_limit(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_is_limit(each) for each in error.exceptions)
    return isinstance(error, LlmCallsLimitExceededError)


def _shown(answer: Answer) -> str:
    if not answer.events:
        return "missing, there was none at all"
    last = answer.events[-1]
    calls = [call.name for call in last.get_function_calls()]
    results = [response.name for response in last.get_function_responses()]
    return f"a call of {calls}" if calls else f"the result of {results}"
