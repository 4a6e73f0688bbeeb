"""The people who answer: at random, and some questions two of them at once."""

from __future__ import annotations

import asyncio
from random import Random

from adk_oban import AdkOban
from adk_oban.approvals import Approval
from adk_oban.errors import AlreadyAnsweredError
from bench.soak.clerk import Verdict

_LOOK_SECONDS = 0.05
_THINK_SECONDS = 2.0
_RIVALRY = 0.2

type Question = tuple[int, str]
"""The number of a job, and the tool that it is about."""


class Desk:
    """Lists what is open, and answers it.

    Args:
        jobs: Where.
        seed: What the answers are drawn with; they depend on nothing else.

    Attributes:
        said: What each question was answered with: the answers that were taken, one
            where all is well.
        rivalries: How many questions were answered by two at once.
    """

    def __init__(self, jobs: AdkOban, seed: int) -> None:
        self._jobs = jobs
        self._seed = seed
        self._known: set[int] = set()
        self.said: dict[Question, list[Verdict]] = {}
        self.rivalries = 0

    async def work(self) -> None:
        """Answer what is asked, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                for asked in await self._jobs.approvals(limit=1000):
                    if asked.id not in self._known:
                        self._known.add(asked.id)
                        group.create_task(self._answer(asked))
                await asyncio.sleep(_LOOK_SECONDS)

    def verdicts(self, job: int) -> dict[str, Verdict]:
        """Return what a job was told, by tool."""
        return {
            tool: said[0]
            for (number, tool), said in self.said.items()
            if number == job and said
        }

    async def _answer(self, asked: Approval) -> None:
        question = (asked.args["job"], asked.tool)
        chance = Random(f"{self._seed} {question}")  # noqa: S311
        await asyncio.sleep(chance.uniform(0, _THINK_SECONDS))
        verdicts = [Verdict.drawn(chance)]
        if chance.random() < _RIVALRY:
            verdicts.append(Verdict.drawn(chance))
            self.rivalries += 1
        taken = await asyncio.gather(*(self._say(asked, each) for each in verdicts))
        said = [each for each, it in zip(verdicts, taken, strict=True) if it]
        self.said.setdefault(question, []).extend(said)

    async def _say(self, asked: Approval, verdict: Verdict) -> bool:
        """Answer; return whether nobody was faster."""
        job = await self._jobs.get_job(asked.job_id)
        if job is None:
            raise LookupError(f"the job of {asked!r} has gone")
        try:
            if verdict.reason:
                await job.reject(asked.id, verdict.reason)
            elif verdict.amount is None:
                await job.approve(asked.id)
            else:
                edited = {**asked.args, "amount": verdict.amount}
                await job.approve(asked.id, edited_args=edited)
        except AlreadyAnsweredError:
            return False
        return True
