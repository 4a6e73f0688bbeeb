"""What an attempt does when a user has cancelled its job in the middle."""

from __future__ import annotations

import logging

from oban import Cancel, Job

from ._args import AgentArgs
from ._codec import storable
from ._oban_queries import DONE
from ._report import Report
from ._seal import sealed
from ._services import Services
from ._steps import Owner
from ._turn import Landing, Turn

logger = logging.getLogger(__name__)


class Stops:
    """How one attempt ends without an answer.

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

    async def stop(self, args: AgentArgs, turn: Turn, left: list[str]) -> Cancel:
        """End it as the user wishes; what it has done so far stays, or leaves no trace.

        Args:
            args: The job's, which say what to keep where the user did not.
            turn: What it has done so far.
            left: What was left behind, for the reason.
        """
        owner = self._owner
        wish = await self._services.cancels.wish(owner.job_id, owner.attempted_at)
        reason = "; ".join([wish.reason or "cancelled while it ran", *left])
        keep = args.on_cancel == "keep" if wish.keep is None else wish.keep
        if keep and turn.added and await self._landed(turn, reason):
            self._job.extra[DONE] = True
            self._report.failed("Cancelled", reason)
            await self._services.order.settle([self._owner.job_id])
            return Cancel(storable(reason))
        return await self.cancel(reason)

    async def cancel(self, reason: str) -> Cancel:
        """End it; the session stays as it was, or as a pause has left it."""
        self._report.failed("Cancelled", reason)
        await self._report.keep("cancelled", reason)
        return Cancel(storable(reason))

    async def _landed(self, turn: Turn, reason: str) -> bool:
        outcome = self._report.end("cancelled", reason)
        part = sealed(turn, author=self._report.agent)
        landing = Landing(self._owner, part, outcome, ends="cancelled")
        landed = await self._services.turns.land(landing)
        if landed.status != "committed":
            logger.warning("job %s: %s, its part is not kept", self._job.id, landed)
        return landed.status == "committed"
