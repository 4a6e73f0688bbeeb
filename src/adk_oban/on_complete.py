"""What follows on the end of a job: a webhook, another agent, the end of a batch.

```python
from adk_oban import AgentWorker
from adk_oban.on_complete import FanIn, Then, Webhook

await AgentWorker.enqueue(
    "writer", "user-1", "Write a poem", on_complete=Then("reviewer", "Review this:")
)
```

The database notes it in the transaction that ends the job, whoever ends it, as a job of
its own in the same queue, which is tried up to 20 times, for about three days.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from oban import Cancel, Job, Snooze

from . import _oban
from ._attempt import RETRY_AFTER
from ._codec import encode, storable
from ._ends import ENDS, End, read_ends
from ._next_job import NextJob
from ._oban_queries import DONE
from ._on_complete import FanIn, OnComplete, Step, Then, parse
from ._order import WAITS
from ._retry_after import retry_after
from ._services import Services
from ._verdict import NotOwner, RefusedError
from ._webhook_sender import Message
from .webhooks import Webhook

__all__ = ["FanIn", "FollowUp", "OnComplete", "Step", "Then", "Webhook"]

logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 12 * 3600
_EVERYTHING = 2**31 - 1


class FollowUp:
    """Does one thing that follows on a job's end; the database enqueues it."""

    # What Oban looks for in a worker that it did not decorate itself.
    _opts: ClassVar[dict[str, Any]] = {}
    _oban_name: ClassVar[str] = "Oban"

    async def process(self, job: Job) -> Cancel | Snooze | None:
        """Do it, or say why it can never be done; Oban calls this."""
        services: Services | None = _oban.services_of(job)
        if services is None:
            logger.error(
                "job %s needs an AdkOban, and none runs in this process", job.id
            )
            return Snooze(10, {WAITS: "worker"})
        try:
            return await self._follow(job, _Ended.parse(job.args), services)
        except RefusedError as refused:
            logger.warning("job %s: %s", job.id, refused)
            return Cancel(storable(str(refused)))
        except NotOwner:
            # Oban's acknowledgement is fenced as well, so that nothing comes of it.
            logger.warning("job %s runs elsewhere by now: leaving it", job.id)
            return None
        except Exception as error:
            logger.warning("job %s, attempt %s: %s", job.id, job.attempt, error)
            job.extra[RETRY_AFTER] = retry_after(error)
            raise

    def backoff(self, job: Job) -> int:
        """Return how many seconds a failed job waits; Oban calls this."""
        services: Services | None = _oban.services_of(job)
        pause: float = min(_oban.default_backoff(job), _LONGEST_PAUSE)
        if services is not None and services.backoff is not None:
            try:
                pause = max(0.0, services.backoff(job))
            except Exception:
                logger.exception("job %s: its backoff failed, Oban's is used", job.id)
        return math.ceil(max(job.extra.get(RETRY_AFTER) or 0, pause))

    async def _follow(
        self, job: Job, ended: _Ended, services: Services
    ) -> Cancel | None:
        # Somebody has retried it, after it has started what follows.
        if job.meta.get("then_job_id") is not None:
            return None
        following = NextJob(job, ended.job_id, services)
        match ended.step:
            case Webhook() as webhook:
                if ended.state in webhook.events:
                    return await _tell(job, ended, webhook, services)
                return None
            case Then() as then:
                if ended.state != "completed":
                    return None
                await following.then(then)
            case FanIn() as fan_in:
                await following.fan_in(fan_in)
        job.extra[DONE] = True
        return None


@dataclass(frozen=True, slots=True)
class _Ended:
    """The args of a `FollowUp`: which job ended, and what follows."""

    job_id: int
    state: str
    attempt: int
    step: Step

    @classmethod
    def parse(cls, args: dict[str, Any]) -> Self:
        try:
            job_id, state, attempt = (
                args[name] for name in ("job_id", "state", "attempt")
            )
            if state not in ENDS or type(job_id) is not int or type(attempt) is not int:
                raise ValueError(f"no end of a job: {args!r}")
            return cls(job_id, state, attempt, parse(args.get("then")))
        except (KeyError, TypeError, ValueError) as error:
            raise RefusedError(f"{type(error).__name__}: {error}") from error


async def _tell(
    job: Job, ended: _Ended, webhook: Webhook, services: Services
) -> Cancel | None:
    async with services.pool.connection() as conn:
        (end,) = await read_ends(
            conn,
            services.prefix,
            [ended.job_id],
            state=ended.state,
            budget=_EVERYTHING,
        )
    # The job of the webhook is one for each end, and the same on each try.
    webhook_id = f"job_{ended.job_id}_{job.id}"
    body = encode(_payload(job, ended, end)).encode()
    if await services.webhooks.send(Message(webhook_id, webhook.url, body)):
        return None
    return Cancel(f"webhook {webhook.url} is gone (410)")


def _payload(job: Job, ended: _Ended, end: End) -> dict[str, Any]:
    # It is inserted by the transaction that ends the job.
    at = job.inserted_at
    return {
        "type": f"job.{ended.state}",
        "timestamp": None if at is None else f"{at.replace(tzinfo=None).isoformat()}Z",
        "data": {
            "job_id": ended.job_id,
            "state": ended.state,
            "agent": end.agent,
            "app_name": end.app_name,
            "user_id": end.user_id,
            "session_id": end.session_id,
            "invocation_id": end.invocation_id,
            "text": end.text or "",
            "output": end.output,
            "error": end.reason,
            "error_code": end.error_code,
            "attempts": ended.attempt,
            "model_calls": end.model_calls or 0,
            "usage": end.usage or {},
        },
    }


_oban.register(FollowUp)
