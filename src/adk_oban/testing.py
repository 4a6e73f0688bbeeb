"""For tests of your own agents: a model that says what you wrote, and `drain`.

```python
from google.adk.agents import LlmAgent

from adk_oban import AdkOban, AgentWorker
from adk_oban.testing import ScriptedModel, call, drain


async def test_the_helper_counts(dsn):
    model = ScriptedModel(replies=[call("count", text="a b c"), "Three words."])
    helper = LlmAgent(name="helper", model=model, tools=[count])
    async with AdkOban(dsn, agents={"helper": helper}) as jobs:
        job = await AgentWorker.enqueue("helper", "user-1", "How many words?")
        assert await drain(jobs) == {"completed": 1}
        assert (await job.result(timeout=5)).text == "Three words."
```
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from pydantic import ConfigDict, Field, PrivateAttr

from . import _oban
from .runtime import AdkOban

type Reply = str | types.Part | list[types.Part] | LlmResponse | BaseException
"""A text, a function call, several parts, a whole response, or an error to raise."""

_QUEUES = ("agents", "scheduled")
_MAX_RUNS = 1000


def call(name: str, /, **args: Any) -> types.Part:
    """Return a function call, to be used as a reply; a list of them is parallel."""
    return types.Part(function_call=types.FunctionCall(name=name, args=args))


class ScriptedModel(BaseLlm):
    """A model that gives the replies it was told, one for each call.

    Attributes:
        replies: The replies in order, or a function that makes one of a request.
        requests: The requests that it got.

    Example:
        >>> ScriptedModel(replies=[call("add", a=1, b=2), "It is 3."])
        >>> ScriptedModel(replies=lambda request: f"{len(request.contents)} contents")
        >>> ScriptedModel(replies=[ConnectionError("down"), "up again"])
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str = "scripted"
    replies: list[Any] | Callable[[LlmRequest], Any]
    requests: list[LlmRequest] = Field(default_factory=list)
    _said: int = PrivateAttr(default=0)

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Give the next reply; ADK calls this."""
        self.requests.append(llm_request)
        reply = self._next(llm_request)
        if isinstance(reply, BaseException):
            raise reply
        yield _response(reply)

    def _next(self, request: LlmRequest) -> Reply:
        if callable(self.replies):
            made: Reply = self.replies(request)
            return made
        if self._said >= len(self.replies):
            raise AssertionError(
                f"the scripted model was called once more than it has replies "
                f"({len(self.replies)})"
            )
        self._said += 1
        reply: Reply = self.replies[self._said - 1]
        return reply


async def drain(
    jobs: AdkOban,
    *,
    queues: Iterable[str] = _QUEUES,
    with_scheduled: bool = True,
) -> dict[str, int]:
    """Run all jobs that wait, here and now, one after another, until none is left.

    To be used with an `AdkOban` that has no queues, so that nobody else runs them.

    Args:
        jobs: The running `AdkOban`, with the agents that the jobs name.
        queues: The queues to drain (default `agents` and `scheduled`).
        with_scheduled: Whether to run jobs now that are scheduled for later, or wait
            for their next attempt (default True). Those that wait for another job of
            their session, or for a person, stay where they are.

    Returns:
        How many attempts ended in which state.

    Raises:
        RuntimeError: 1,000 attempts did not empty a queue.
    """
    ended: Counter[str] = Counter()
    for queue in queues:
        state: str | None = None
        while True:
            # One that has just begun to wait is not asked again before another has run.
            later = with_scheduled and state != "scheduled"
            if (state := await _run_next(jobs, queue, later)) is None:
                break
            ended[state] += 1
            if ended.total() > _MAX_RUNS:
                raise RuntimeError(f"queue {queue!r} is not empty after {_MAX_RUNS}")
    return dict(ended)


async def _run_next(jobs: AdkOban, queue: str, with_scheduled: bool) -> str | None:
    far = datetime.now(UTC) + timedelta(days=36_500)
    before = far if with_scheduled else datetime.now(UTC)
    await _oban.stage(jobs.oban, queue, before=before.replace(tzinfo=None))
    return await _oban.run_next(jobs.oban, queue)


def _response(reply: str | types.Part | list[types.Part] | LlmResponse) -> LlmResponse:
    match reply:
        case LlmResponse():
            return reply
        case str():
            parts = [types.Part(text=reply)]
        case list():
            parts = reply
        case _:
            parts = [reply]
    return LlmResponse(content=types.Content(role="model", parts=parts))
