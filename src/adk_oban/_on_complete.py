"""What follows on the end of a job: what users write, and its JSON in the job's args.

```
{"webhook": {"url": "https://…", "events": ["completed"]}}
{"agent": "reviewer", "message": "Review this:", "on_complete": […]}
{"fan_in": {"key": "report-7", "size": 3, "then": {"agent": "summarizer"}}}
```
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from ._args import MAX_ID_LENGTH, check_json, show
from ._kind import AGENT
from ._options import JobOptions
from .webhooks import Webhook

MAX_TEXT_BYTES = 1024 * 1024
MAX_SIZE = 10_000
MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Then:
    """Enqueues an agent with the result of a job, when that has completed.

    On a job that was discarded or cancelled nothing follows.

    Attributes:
        agent: A registered name, `"module:name"`, or an inline config.
        message: What the agent is told before the result; at most 1 MiB.
        user_id: ADK's user id (default: that of the job).
        session_id: ADK's session id (default: a new session).
        app_name: ADK's app name (default: the agent's own).
        queue: The queue of the new job (default `"agents"`).
        max_attempts: How many attempts it has (default 3).
        priority: 0 (first) to 9 (default 2).
        on_complete: What follows on the new job.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A value is wrong; the message names it.

    Example:
        >>> Then("reviewer", message="Review this:", on_complete=Then("publisher"))
    """

    agent: str | Mapping[str, Any]
    message: str = ""
    user_id: str | None = None
    session_id: str | None = None
    app_name: str | None = None
    queue: str = AGENT.options.queue
    max_attempts: int = AGENT.options.max_attempts
    priority: int = AGENT.options.priority
    on_complete: Any = None

    def __post_init__(self) -> None:
        _check_text(self.message)
        following = None if self.on_complete is None else parse_all(self.on_complete)
        object.__setattr__(self, "on_complete", following)
        _check_depth(self, MAX_DEPTH)
        self.args(self.user_id or "u", self.message.strip() or "m")
        self.options()

    def args(self, user_id: str, message: object) -> dict[str, Any]:
        """Return the args of the new job, checked.

        Args:
            user_id: Whose it is unless this says it.
            message: What the agent is told.
        """
        named = isinstance(self.agent, str)
        given = {
            "agent_module" if named else "agent_config": self.agent,
            "user_id": user_id if self.user_id is None else self.user_id,
            "message": message,
            "session_id": self.session_id,
            "app_name": self.app_name,
            "on_complete": encode(self.on_complete),
        }
        return AGENT.parse(given).to_json()

    def options(self) -> JobOptions:
        """Return the options of the new job, checked."""
        return AGENT.options.with_(
            queue=self.queue, max_attempts=self.max_attempts, priority=self.priority
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as a job's args hold it: without what is not said."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["on_complete"] = encode(self.on_complete)
        defaults = {"message": "", **_DEFAULTS}
        return {
            name: dict(value)
            if name == "agent" and not isinstance(value, str)
            else value
            for name, value in values.items()
            if value is not None and value != defaults.get(name)
        }

    @classmethod
    def parse(cls, value: object) -> Self:
        """Return what `{"agent": …, "message": …}` says."""
        optional = tuple(name for name in cls.__slots__ if name != "agent")
        return cls(**_fields("then", value, ("agent",), optional))


_DEFAULTS = {
    "queue": AGENT.options.queue,
    "max_attempts": AGENT.options.max_attempts,
    "priority": AGENT.options.priority,
}


@dataclass(frozen=True, slots=True)
class FanIn:
    """Enqueues one agent with the results of a batch, when all of it has ended.

    Each job of the batch is enqueued with an equal one. A job counts once, however it
    ended, and also when it is retried and ends again.

    Attributes:
        key: What the jobs of the batch have in common; at most 128 characters. A key
            is free again when the batch has been forgotten (`result_ttl`).
        size: How many jobs the batch has, 1 to 10,000.
        then: Which agent gets the results.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A value is wrong; the message names it.

    Example:
        >>> FanIn("report-7", 3, Then("summarizer", message="Summarize these:"))
    """

    key: str
    size: int
    then: Then

    def __post_init__(self) -> None:
        _check_key(self.key)
        if not isinstance(self.size, int) or isinstance(self.size, bool):
            raise TypeError(f"size must be a whole number, got {show(self.size)}")
        if not 1 <= self.size <= MAX_SIZE:
            raise ValueError(f"size must be 1 to {MAX_SIZE}, got {self.size!r}")
        if not isinstance(self.then, Then):
            raise TypeError(f"then must be a Then, got {show(self.then)}")

    def to_json(self) -> dict[str, Any]:
        """Return it as a job's args hold it."""
        then = self.then.to_json()
        return {"fan_in": {"key": self.key, "size": self.size, "then": then}}

    @classmethod
    def parse(cls, value: object) -> Self:
        """Return what `{"key": …, "size": …, "then": {…}}` says."""
        known = _fields("fan_in", value, ("key", "size", "then"), ())
        then = known["then"]
        if not isinstance(then, Then):
            known["then"] = Then.parse(then)
        return cls(**known)


type Step = Webhook | Then | FanIn
"""One thing that follows on a job's end."""

type OnComplete = Step | Mapping[str, Any] | Iterable[Step | Mapping[str, Any]]
"""What `on_complete=` takes: a step, its JSON, or a list of them."""


def parse(value: object) -> Step:
    """Return the step that an object of JSON, or a step itself, is.

    Raises:
        TypeError: It is neither.
        ValueError: It is no step that is known, or a value of it is wrong.
    """
    match value:
        case Webhook() | Then() | FanIn():
            return value
        case {"webhook": said, **rest} if not rest:
            return Webhook(**_fields("webhook", said, ("url",), ("events",)))
        case {"fan_in": said, **rest} if not rest:
            return FanIn.parse(said)
        case {"agent": _}:
            return Then.parse(value)
        case Mapping():
            raise ValueError(
                "on_complete must be {'webhook': …}, {'agent': …} or {'fan_in': …}, "
                f"got {show(value)}"
            )
    raise TypeError(
        "on_complete must be a Webhook, a Then, a FanIn, their JSON or a list of "
        f"them, got {show(value)}"
    )


def parse_all(value: object) -> tuple[Step, ...]:
    """Return the steps of `on_complete`, one or many.

    Raises:
        TypeError: One is of the wrong type.
        ValueError: One is wrong; the message names it.
    """
    try:
        if isinstance(value, list | tuple):
            return tuple(parse(each) for each in value)
        return (parse(value),)
    except RecursionError:
        raise ValueError(f"on_complete is nested too deep: {show(value)}") from None


def encode(value: object) -> list[dict[str, Any]] | None:
    """Return `on_complete` as a job's args hold it; None for none.

    Raises:
        TypeError: As `parse_all`.
        ValueError: As `parse_all`.
    """
    if value is None:
        return None
    return [step.to_json() for step in parse_all(value)] or None


def nested(steps: Iterable[Step] | None) -> Iterator[Step]:
    """Yield steps, and what follows on the jobs that they enqueue."""
    for step in steps or ():
        yield step
        if isinstance(step, FanIn):
            yield from nested([step.then])
        elif isinstance(step, Then):
            yield from nested(step.on_complete)


def _check_key(value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"key must be a string, got {show(value)}")
    if not value.strip() or len(value) > MAX_ID_LENGTH:
        raise ValueError(
            f"key must be 1 to {MAX_ID_LENGTH} characters and not blank, got "
            f"{show(value)}"
        )
    check_json("key", value)


def _check_text(value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"message must be a string, got {show(value)}")
    size = len(check_json("message", value).encode())
    if size > MAX_TEXT_BYTES:
        raise ValueError(
            f"message must be at most {MAX_TEXT_BYTES} bytes, got {size}; put large "
            "data into an artifact and name it"
        )


def _check_depth(step: Step, left: int) -> None:
    if left == 0:
        raise ValueError(f"on_complete must be at most {MAX_DEPTH} deep")
    inner = (step.then,) if isinstance(step, FanIn) else ()
    for each in step.on_complete or () if isinstance(step, Then) else inner:
        _check_depth(each, left - 1)


def _fields(
    name: str, value: object, needed: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be an object, got {show(value)}")
    if missing := [key for key in needed if value.get(key) is None]:
        raise ValueError(f"{name} needs {missing!r}, got {show(value)}")
    known = (*needed, *optional)
    if unknown := sorted(set(value) - set(known), key=str):
        raise ValueError(f"{name} has unknown keys {unknown!r}; known are {known!r}")
    return {key: each for key, each in value.items() if each is not None}
