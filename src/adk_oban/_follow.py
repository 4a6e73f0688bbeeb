"""Following a job: what has happened, and what happens, until it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any

from ._clock import real_now
from ._event_log import Entry, Page
from ._partials import answer_name
from ._services import Services
from ._watch import Watcher
from .errors import JobNotFoundError
from .events import OUTCOMES, JobEvent, cursor_of

type _Place = tuple[int, int]
"""An attempt, and how many steps of the job had been done in it."""


async def follow(
    services: Services, job_id: int, position: int, *, partial: bool
) -> AsyncGenerator[JobEvent, None]:
    """Give a job's events after a position, as they happen, until it has ended.

    Raises:
        JobNotFoundError: There is neither the job, nor its result, nor events of it.
        ValueError: The job has not reached the position.
    """
    heard = _Heard()
    watch = services.watch.job(job_id, every=True, partials=partial)
    is_new = True
    async with watch as watcher:
        while True:
            while watcher.changed:
                watcher.changed = False
                page = await services.events.after(job_id, position)
                if is_new:
                    _check_reached(page, job_id, position)
                    is_new = False
                for entry in page.entries:
                    heard.note(entry)
                    position = entry.id
                    yield entry.event
                if not page.is_last:
                    watcher.changed = True
                elif page.ended:
                    if page.told:
                        return
                    if outcome := await _outcome(services, job_id, position):
                        yield outcome
                        return
            for event in heard.partials(watcher):
                yield event
            if not watcher.changed:
                await watcher.wait()


class _Heard:
    """What one who follows has seen of each agent's answers."""

    def __init__(self) -> None:
        self._seen: dict[str, _Place] = {}

    def note(self, entry: Entry) -> None:
        """Note an event: text that was on its way before it is old by now."""
        event = entry.event
        if event.type == "event":
            name = answer_name(event.agent, event.data.get("branch"))
            self._seen[name] = (event.attempt, entry.steps)

    def partials(self, watcher: Watcher) -> Iterator[JobEvent]:
        """Give the text that has arrived and is not old."""
        while watcher.partials and not watcher.changed:
            told = watcher.partials.popleft()
            place = (told["attempt"], told["steps"])
            if place >= self._seen.get(told["answer"], (0, 0)):
                yield _partial(told)


def _partial(told: dict[str, Any]) -> JobEvent:
    return JobEvent(
        job_id=told["job_id"],
        type="partial",
        attempt=told["attempt"],
        at=real_now(),
        cursor=None,
        agent=told["agent"],
        text=told["text"],
        data={"offset": told["offset"]},
    )


def _check_reached(page: Page, job_id: int, position: int) -> None:
    last = page.last_id or 0
    # What has been pruned may have been there.
    if position > last and not (page.ended and page.last_id is None):
        raise ValueError(
            f"job {job_id} has not reached the event {cursor_of(job_id, position)!r}; "
            f"its last one is {cursor_of(job_id, last)!r}"
        )


async def _outcome(services: Services, job_id: int, position: int) -> JobEvent | None:
    """Return how a job ended that nobody noted the end of; None: it runs again."""
    progress = await services.results.progress(job_id)
    state = progress.job_state or progress.result_state
    if state is None:
        raise JobNotFoundError(job_id)
    if state not in OUTCOMES:
        return None
    result = await services.results.get(job_id)
    if result is not None and result.state != state:
        result = None
    told = {"error": progress.result_error or progress.job_error}
    if result is not None:
        told |= {"text": result.text, "output": result.output}
        told |= {"error_code": result.error_code, "error": result.error}
    said = {name: value for name, value in told.items() if value is not None}
    return JobEvent(
        job_id=job_id,
        type=state,
        attempt=progress.result_attempt or progress.job_attempt or 0,
        at=(result.finished_at if result else None) or real_now(),
        cursor=cursor_of(job_id, position),
        text=said.get("text") or said.get("error") or "",
        data=said,
    )
