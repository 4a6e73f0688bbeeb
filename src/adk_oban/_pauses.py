"""What an attempt does when its agent waits for somebody: the job gives up its slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from oban import Cancel, Job, Snooze

from ._approvals import WAITS as APPROVAL
from ._args import AgentArgs
from ._codec import storable
from ._invocation import Answer
from ._oban_queries import DONE
from ._order import WAITS
from ._question import Question
from ._report import Report
from ._services import Services
from ._steps import Owner, Step
from ._turn import Landing, Turn
from ._verdict import NotOwner, Stopped

TALLY = "adk_oban_tally"
"""In a job's meta: what the parts before a pause were made of."""

# What Oban is told; the job's row has its own time already.
_LATER = 60


class Pauses:
    """The pauses of one attempt.

    Args:
        job: The job, as it was fetched.
        owner: The attempt.
        report: What it tells.
        services: What it runs with.
    """

    def __init__(
        self, job: Job, owner: Owner, report: Report, services: Services
    ) -> None:
        self._job = job
        self._owner = owner
        self._report = report
        self._services = services

    async def land(self, args: AgentArgs, turn: Turn, answer: Answer) -> Snooze | None:
        """Commit a part of the turn with what it asks; None if its session moved.

        Raises:
            NotOwner: The job is somebody else's; nothing was written.
            Stopped: It is to be cancelled; nothing was written.
        """
        landing = Landing(
            self._owner,
            turn,
            self._report.outcome(answer),
            ends="paused",
            questions=tuple(self._timed(each, args) for each in answer.questions),
            tally=self._report.parts(answer),
        )
        landed = await self._services.turns.land(landing)
        match landed.status:
            case "moved":
                return None
            case "lost":
                raise NotOwner
            case "cancelled":
                raise Stopped
        return self._paused(APPROVAL, len(answer.questions))

    async def ask(self, questions: Sequence[Question], segment: int) -> Snooze:
        """Ask from the middle of the agent's run; the next attempt comes back there.

        Raises:
            NotOwner: The job is somebody else's; nothing was written.
        """
        args = AgentArgs.parse(self._job.args)
        timed = [self._timed(each, args) for each in questions]
        return await self._ask(timed, segment, waits=APPROVAL)

    async def decide(self, segment: int) -> Snooze:
        """Ask what happened to the tools that run once and were cut off.

        Raises:
            NotOwner: The job is somebody else's; nothing was written.
        """
        steps = await self._services.steps.of_job(self._owner.job_id)
        asked = [_decision(step) for step in steps if step.state != "done"]
        return await self._ask(asked, segment, waits="decision")

    async def settle(self) -> Snooze | Cancel | None:
        """Give up on what nobody has answered in time; None if the agent goes on.

        Raises:
            NotOwner: The job is somebody else's; nothing was written.
        """
        end, approval = await self._services.approvals.settle(self._owner)
        if end == "lost":
            raise NotOwner
        if end == "waits":
            return self._paused(APPROVAL, 0)
        if approval is None:
            return None
        reason = (
            f"nobody answered approval {approval.id} ({approval.kind} of "
            f"{approval.tool!r}) in time"
        )
        self._report.failed("Cancelled", reason)
        await self._report.keep("cancelled", reason)
        return Cancel(storable(reason))

    async def _ask(
        self, questions: Sequence[Question], segment: int, *, waits: str
    ) -> Snooze:
        whose = {
            "app_name": self._report.app_name,
            "user_id": self._report.user_id,
            "session_id": self._report.session_id,
        }
        asked = await self._services.approvals.ask(
            self._owner, questions, segment=segment, waits=waits, whose=whose
        )
        if not asked:
            raise NotOwner
        return self._paused(waits, len(questions))

    def _paused(self, waits: str, questions: int) -> Snooze:
        # What Oban would write is written.
        self._job.extra[DONE] = True
        self._report.paused(questions)
        return Snooze(_LATER, {WAITS: waits})

    def _timed(self, question: Question, args: AgentArgs) -> Question:
        services = self._services
        return replace(
            question,
            timeout=args.approval_timeout or services.approval_timeout,
            on_deadline=args.on_approval_timeout or services.on_approval_timeout,
        )


def _decision(step: Step) -> Question:
    how = "its process ended" if step.payload is None else f"it raised {step.payload}"
    return Question(
        call_id=f"{step.key}:{step.ordinal}",
        call_name=step.name,
        kind="decision",
        agent=step.agent,
        tool=step.name,
        args={},
        hint=f"it runs once, and nobody knows whether it did: {how}",
        payload={"step_id": step.id},
    )
