"""What an attempt shows of its agent: each event once, on whatever attempt."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from google.adk.events import Event

from ._codec import encode_event
from ._fingerprint import of_event
from ._partials import Partials, answer_of
from ._shown import Shown, ShownEvent
from ._steps import Owner
from ._tally import Tally

logger = logging.getLogger(__name__)


class Stream:
    """The events of one run of an agent, for those who follow the job.

    Args:
        owner: The attempt.
        shown: Where complete events go.
        partials: Where partial text goes.
        tally: How many steps have been done.
        segment: Which part of the invocation it is, between pauses.
        known: The keys of the events that are there already.
    """

    def __init__(
        self,
        owner: Owner,
        shown: Shown,
        partials: Partials,
        tally: Tally,
        *,
        segment: int = 0,
        known: frozenset[str] = frozenset(),
    ) -> None:
        self._owner = owner
        self._shown = shown
        self._partials = partials
        self._tally = tally
        self._segment = segment
        self._known = known
        self._counts: Counter[str] = Counter()
        self._withdrawn: list[ShownEvent] = []
        self._ended = False

    def show(self, event: Event) -> None:
        """Show an event as the agent's run yields it; nothing is waited for."""
        if event.partial:
            self._partials.add(self._owner, self._steps, event)
            return
        if event.author == "user":  # the message, or a person's answer
            return
        if (key := self._key(event)) in self._known:
            return
        shown = ShownEvent(
            job_id=self._owner.job_id,
            attempted_at=self._owner.attempted_at,
            attempt=self._owner.attempt,
            key=key,
            steps=self._steps,
            data=encode_event(event),
        )
        # Before it, what is left of its text: nobody hears of that afterwards.
        self._partials.complete(self._owner.job_id, answer_of(event))
        self._shown.put(shown)

    def withdraw(self) -> tuple[dict[str, Any], ...]:
        """Return what is not written yet, as rows to be committed with the turn."""
        began = self._owner.attempted_at
        found = self._shown.withdraw(self._owner.job_id)
        self._withdrawn += [event for event in found if event.attempted_at == began]
        self._partials.forget(self._owner.job_id)
        return tuple(event.row() for event in self._withdrawn)

    def landed(self) -> None:
        """Note that all of it is committed."""
        self._ended = True

    async def flush(self) -> None:
        """Write what is not committed, before the attempt is given up."""
        if self._ended:
            return
        self._partials.forget(self._owner.job_id)
        for event in self._withdrawn:
            self._shown.put(event)
        self._withdrawn.clear()
        try:
            await self._shown.flush(self._owner.job_id)
        except Exception:
            # The next attempt shows them.
            logger.exception("job %s: events were not written", self._owner.job_id)

    @property
    def _steps(self) -> int:
        return self._tally.steps.total()

    def _key(self, event: Event) -> str:
        digest = of_event(event)
        ordinal = self._counts[digest]
        self._counts[digest] += 1
        return f"{self._segment}:{digest}:{ordinal}"
