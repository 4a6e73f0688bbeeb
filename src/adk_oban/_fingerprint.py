"""What a step was asked, as a digest that is the same on every attempt.

Left out is what ADK or a client makes anew each time, or what only says how a request
travels: call ids, labels, HTTP options, caches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from google.adk.events import Event
from google.adk.models.llm_request import LlmRequest
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

# Of a function call or response that got its id from ADK, not from the model.
_CLIENT_ID = re.compile(rb'"id":"adk-[^"]*",?')
# The number of a node's run, or the id of the call that a branch belongs to.
_RUN_ID = re.compile(r"@[^./]*")

_APART = frozenset({"system_instruction", "tools"})
_TRANSPORT = frozenset(
    {"labels", "http_options", "cached_content", "should_return_http_response"}
)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A digest of a request, and digests of its parts, which tell what changed.

    Attributes:
        digest: Of all of it.
        parts: By name: `model`, `instruction`, `contents`, `tools`, `config` of a
            model call, `args` of a tool call, `inputs` of a node.
    """

    digest: str
    parts: dict[str, str]

    def differs_from(self, parts: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of the parts that are not the same."""
        names = {**parts, **self.parts}
        return tuple(n for n in names if parts.get(n) != self.parts.get(n))


def of_model(request: LlmRequest) -> Fingerprint:
    """Return the fingerprint of a model call."""
    config = request.config
    return _fingerprint(
        model=request.model,
        instruction=config.system_instruction if config else None,
        contents=request.contents,
        tools=config.tools if config else None,
        config=_rest(config),
    )


def of_tool(args: Mapping[str, Any]) -> Fingerprint:
    """Return the fingerprint of a tool call's arguments."""
    return _fingerprint(args=args)


def of_node(inputs: Mapping[str, Any]) -> Fingerprint:
    """Return the fingerprint of a function node's inputs."""
    return _fingerprint(inputs=inputs)


def of_event(event: Event) -> str:
    """Return a digest of what an event says, the same on every attempt that says it.

    Of a change of state only the keys count: a value such as the time is another one on
    each attempt. Events that are alike are told apart by counting them.
    """
    actions = event.actions
    said = (
        event.author,
        without_run_ids(event.branch),
        event.content,
        event.output,
        event.error_code,
        event.error_message,
        sorted(actions.state_delta),
        actions.artifact_delta,
        actions.transfer_to_agent,
        actions.escalate,
        actions.end_of_agent,
        actions.route,
        # Without the ids of the calls that they are for.
        [*actions.requested_tool_confirmations.values()],
        len(actions.requested_auth_configs),
    )
    return sha256(_CLIENT_ID.sub(b"", _canonical(said))).hexdigest()[:32]


def without_run_ids(branch: str | None) -> str:
    """Return a branch of ADK's as it is on every attempt."""
    return _RUN_ID.sub("", branch or "")


def short_digest(*texts: str) -> str:
    """Return 128 bits of SHA-256 over texts, in hex."""
    return sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _rest(config: Any) -> Any:
    if config is None:
        return None
    # The fields that are set, not a dump of all forty.
    names = config.model_fields_set - _APART - _TRANSPORT
    return {name: getattr(config, name) for name in sorted(names)}


def _fingerprint(**parts: Any) -> Fingerprint:
    digests = {}
    for name, value in parts.items():
        text = _canonical(value)
        if name == "contents" and b'"id":"adk-' in text:
            text = _CLIENT_ID.sub(b"", text)
        digests[name] = sha256(text).hexdigest()[:16]
    return Fingerprint(short_digest(*digests.values()), digests)


def _canonical(value: Any) -> bytes:
    try:
        return to_json(value, exclude_none=True, bytes_mode="base64", fallback=_opaque)
    except (PydanticSerializationError, ValueError):  # a lone surrogate, most often
        plain = to_jsonable_python(
            value, exclude_none=True, bytes_mode="base64", fallback=_opaque
        )
        return repr(plain).encode("utf-8", "surrogatepass")


def _opaque(value: object) -> str:
    # Its repr may hold an address, which is another one in another process.
    return f"{type(value).__module__}.{type(value).__qualname__}"
