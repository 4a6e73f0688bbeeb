"""The args of an agent's job: what a row holds, checked before it is inserted and run.

The keys are the origin's, so that a row written by another program runs here.
"""

from __future__ import annotations

import json
import math
import reprlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from google.adk.agents._streaming_mode import StreamingMode
from google.adk.agents.run_config import RunConfig
from google.genai import types
from pydantic import ValidationError

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""The longest message, as encoded JSON. Larger data belongs into an artifact."""

MAX_ID_LENGTH = 128
"""ADK's tables hold at most this many characters of a name or id."""

KEYS = frozenset(
    {
        "agent_module",
        "agent_config",
        "user_id",
        "message",
        "session_id",
        "app_name",
        "runner_opts",
        "ordering",
        "on_cancel",
        "timeout",
        "streaming",
        "when_busy",
        "approval_timeout",
        "on_approval_timeout",
        "on_complete",
    }
)

ORDERINGS = ("session", "none")
"""Whether a job waits for the earlier ones of its session."""

ON_CANCEL = ("discard", "keep")
"""What becomes of what a job has done when it is cancelled."""

WHEN_BUSY = ("enqueue", "reject", "interrupt", "rollback", "merge")
"""What becomes of a message for a session whose earlier job has not ended."""

ON_APPROVAL_TIMEOUT = ("reject", "approve", "cancel")
"""What becomes of a question that nobody has answered in time."""

type Message = str | types.Content | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AgentArgs:
    """Checked args of a job; every field is what JSON can hold.

    Attributes:
        user_id: ADK's user id.
        message: The user's message: text, or an ADK `Content` as JSON.
        agent_module: Which agent runs: a registered name, a module or
            `"module:name"`. None when `agent_config` says it.
        agent_config: An inline agent.
        app_name: ADK's app name; None leaves it to the agent.
        session_id: ADK's session id; None makes a new one.
        runner_opts: Fields of ADK's `RunConfig`.
        ordering: `"session"`: after the earlier jobs of its session; `"none"`: at once.
            None leaves it to the default, `"session"`.
        on_cancel: `"discard"`: a cancelled job leaves no trace in its session;
            `"keep"`: what it has done so far. None: `"discard"`.
        timeout: How many seconds an attempt may take; None: as many as it takes.
        streaming: Whether partial text reaches those who follow the job.
        when_busy: What becomes of it when its session is busy; None: `"enqueue"`.
        approval_timeout: How many seconds people have to answer; None: as many as it
            takes.
        on_approval_timeout: `"reject"`, `"approve"` or `"cancel"`; None: `"reject"`.
        on_complete: What follows on its end, as `on_complete.py` has it.
    """

    user_id: str
    message: str | dict[str, Any]
    agent_module: str | None = None
    agent_config: dict[str, Any] | None = None
    app_name: str | None = None
    session_id: str | None = None
    runner_opts: dict[str, Any] = field(default_factory=dict)
    ordering: str | None = None
    on_cancel: str | None = None
    timeout: float | None = None
    streaming: bool | None = None
    when_busy: str | None = None
    approval_timeout: float | None = None
    on_approval_timeout: str | None = None
    on_complete: list[dict[str, Any]] | None = None

    @classmethod
    def parse(cls, args: Mapping[str, Any], *, also: frozenset[str] = KEYS) -> Self:
        """Check `args`, which may come straight from the database.

        Args:
            args: The job's args.
            also: The keys that are known.

        Raises:
            TypeError: A field is of the wrong type.
            ValueError: A field is missing, empty, too long, unknown, or not JSON that
                PostgreSQL can hold. The message names the field and the value.
        """
        if unknown := sorted(set(args) - also, key=str):
            raise ValueError(
                f"args has unknown keys {unknown!r}; known are {sorted(also)!r}"
            )
        module = _optional_id("agent_module", args.get("agent_module"), limit=None)
        config = args.get("agent_config")
        if (module is None) == (config is None):
            raise ValueError(
                "args needs either agent_module or agent_config, got "
                f"agent_module={module!r}, agent_config={show(config)}"
            )
        if config is not None and not isinstance(config, Mapping):
            raise TypeError(f"agent_config must be an object, got {show(config)}")
        return cls(
            user_id=_id("user_id", args.get("user_id")),
            message=encode_message(args.get("message")),
            agent_module=module,
            agent_config=None
            if config is None
            else check_json("agent_config", dict(config)),
            app_name=_optional_id("app_name", args.get("app_name")),
            session_id=_optional_id("session_id", args.get("session_id")),
            runner_opts=encode_run_config(args.get("runner_opts")),
            ordering=_choice("ordering", args.get("ordering"), ORDERINGS),
            on_cancel=_choice("on_cancel", args.get("on_cancel"), ON_CANCEL),
            timeout=_seconds("timeout", args.get("timeout")),
            streaming=_flag("streaming", args.get("streaming")),
            when_busy=_choice("when_busy", args.get("when_busy"), WHEN_BUSY),
            approval_timeout=_seconds("approval_timeout", args.get("approval_timeout")),
            on_approval_timeout=_choice(
                "on_approval_timeout",
                args.get("on_approval_timeout"),
                ON_APPROVAL_TIMEOUT,
            ),
            on_complete=_steps("on_complete", args.get("on_complete")),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the args as the row holds them: what is not set is left out."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {k: v for k, v in values.items() if v is not None and v != {}}

    def content(self) -> types.Content:
        """Return the message as ADK wants it: content of the user."""
        if isinstance(self.message, str):
            return types.Content(role="user", parts=[types.Part(text=self.message)])
        # From JSON text, since only there bytes are read as base64.
        content = types.Content.model_validate_json(json.dumps(self.message))
        return types.Content(role="user", parts=content.parts)

    def run_config(self) -> RunConfig:
        """Return `runner_opts` as ADK's `RunConfig`."""
        config = RunConfig.model_validate_json(json.dumps(self.runner_opts))
        if self.streaming:
            return config.model_copy(update={"streaming_mode": StreamingMode.SSE})
        return config


def new_session_id(kind: str) -> str:
    """Return `kind`, a hyphen and 11 random url-safe characters, as the origin does."""
    return f"{kind}-{secrets.token_urlsafe(8)}"


def encode_message(message: object) -> str | dict[str, Any]:
    """Return `message` as args hold it, or refuse it.

    Raises:
        TypeError: It is neither a string nor an ADK `Content`.
        ValueError: It is missing, empty, longer than 8 MiB, or holds what PostgreSQL
            cannot store.
    """
    encoded: str | dict[str, Any]
    match message:
        case None | "":
            raise ValueError(f"message must not be missing or empty, got {message!r}")
        case str():
            if not message.strip():
                raise ValueError(f"message must not be blank, got {show(message)}")
            encoded = message
        case types.Content():
            encoded = _encode_content(message)
        case Mapping():
            encoded = _encode_content(_content(message))
        case _:
            raise TypeError(
                f"message must be a string or an ADK Content, got {show(message)}"
            )
    check_json("message", encoded)
    size = len(json.dumps(encoded, ensure_ascii=False).encode())
    if size > MAX_MESSAGE_BYTES:
        raise ValueError(
            f"message must be at most {MAX_MESSAGE_BYTES} bytes of JSON, got {size}: "
            f"{show(message)}; put large data into an artifact and name it"
        )
    return encoded


def encode_run_config(opts: object) -> dict[str, Any]:
    """Return `opts` as args hold them: the fields of ADK's `RunConfig` that were set.

    Raises:
        TypeError: It is neither a mapping nor a `RunConfig`.
        ValueError: A field is unknown to `RunConfig`, or its value is wrong.
    """
    match opts:
        case None:
            return {}
        case RunConfig():
            return _set_fields(opts)
        case Mapping():
            try:
                return _set_fields(RunConfig.model_validate(dict(opts)))
            except ValidationError as error:
                raise ValueError(first_error("runner_opts", error)) from None
    raise TypeError(f"runner_opts must be a mapping or a RunConfig, got {show(opts)}")


def first_error(what: str, error: ValidationError) -> str:
    """Return pydantic's first complaint as one line that names the field."""
    first = error.errors(include_url=False)[0]
    where = ".".join([what, *(str(part) for part in first["loc"])])
    return f"{where}: {first['msg']}, got {show(first['input'])}"


def check_json[T](name: str, value: T) -> T:
    """Return `value` if it is JSON that PostgreSQL's jsonb can hold.

    Raises:
        ValueError: It is not; the message names the field.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds a lone surrogate {error.object[error.start]!r}, which "
            "UTF-8 cannot encode"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{name} cannot be encoded as JSON: {error}, got {show(value)}"
        ) from None
    # An escaped backslash followed by "u0000" is text; an escape of its own is NUL.
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError(
            f"{name} holds a NUL character, which PostgreSQL cannot store: "
            f"{show(value)}"
        )
    return value


def show(value: object) -> str:
    """Return a short `repr` of any value, for error messages."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr(maxstring=80, maxother=80, maxdict=6, maxlist=6)


def _set_fields(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_unset=True)


def _content(value: Mapping[str, Any]) -> types.Content:
    try:
        return types.Content.model_validate_json(json.dumps(dict(value)))
    except ValidationError as error:
        raise ValueError(first_error("message", error)) from None
    except TypeError as error:
        raise ValueError(f"message cannot be encoded as JSON: {error}") from None


def _encode_content(content: types.Content) -> dict[str, Any]:
    if not content.parts:
        raise ValueError("message must have at least one part, got a Content without")
    return content.model_dump(mode="json", exclude_none=True)


def _id(name: str, value: object, *, limit: int | None = MAX_ID_LENGTH) -> str:
    if value is None or value == "":
        raise ValueError(f"{name} must not be missing or empty, got {value!r}")
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {show(value)}")
    if not value.strip():
        raise ValueError(f"{name} must not be blank, got {show(value)}")
    if limit is not None and len(value) > limit:
        raise ValueError(
            f"{name} must be at most {limit} characters, got {len(value)}: "
            f"{show(value)}"
        )
    return check_json(name, value)


def _optional_id(
    name: str, value: object, *, limit: int | None = MAX_ID_LENGTH
) -> str | None:
    return None if value is None else _id(name, value, limit=limit)


def _choice(name: str, value: object, choices: tuple[str, ...]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {choices!r}, got {show(value)}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices!r}, got {show(value)}")
    return value


def _flag(name: str, value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, got {show(value)}")
    return value


def _steps(name: str, value: object) -> list[dict[str, Any]] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise TypeError(f"{name} must be a list of objects, got {show(value)}")
    return check_json(name, value)


def _seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be seconds, got {show(value)}")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be more than 0 seconds, got {show(value)}")
    return value
