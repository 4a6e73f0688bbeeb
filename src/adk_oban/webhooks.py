"""Webhooks and their signatures, as Standard Webhooks has them (standardwebhooks.com).

A receiver checks what it got with the secret that it shares with the workers:

```python
from adk_oban.webhooks import verify

async def hook(request):
    told = verify(await request.body(), request.headers, secret)
    print(told["type"], told["data"]["text"])
```

The same message may come more than once, always with the same `webhook-id`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ._args import check_json, show
from ._ends import ENDS

_PREFIX = "whsec_"
_LEAST, _MOST = 24, 64  # bytes of a secret, as the specification has it


MAX_URL_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class Webhook:
    """Tells a URL how a job ended, signed, as Standard Webhooks has it.

    Attributes:
        url: Where to, `http://` or `https://`; at most 2,048 characters.
        events: Which ends it is told of: some of `"completed"`, `"discarded"` and
            `"cancelled"` (default: all).

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A value is wrong; the message names it.

    Example:
        >>> Webhook("https://example.com/hooks", events=["completed"])
    """

    url: str
    events: Iterable[str] = ENDS

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _url(self.url))
        object.__setattr__(self, "events", _events(self.events))

    def to_json(self) -> dict[str, Any]:
        """Return it as a job's args hold it."""
        return {"webhook": {"url": self.url, "events": list(self.events)}}


def new_secret() -> str:
    """Return a new secret: `whsec_` and 32 random bytes in base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def parse_secrets(value: str | Iterable[str] | None) -> tuple[bytes, ...]:
    """Return the keys that secrets stand for.

    Args:
        value: A secret, several in one string with spaces between, or a list.

    Raises:
        TypeError: It is neither a string nor a list of strings.
        ValueError: One is not `whsec_` and base64 of 24 to 64 bytes. The message does
            not show it.
    """
    if value is None:
        return ()
    if not isinstance(value, str | list | tuple):
        kind = type(value).__name__
        raise TypeError(f"webhook_secret must be a string or a list, got a {kind}")
    texts = value.split() if isinstance(value, str) else value
    return tuple(_key(text) for text in texts)


def sign(keys: Iterable[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: a signature for each key."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    made = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(each).decode()}" for each in made)


def verify(
    payload: bytes | str,
    headers: Mapping[str, str],
    secret: str | Iterable[str],
    *,
    tolerance: float = 300.0,
) -> dict[str, Any]:
    """Return what a webhook tells, if it comes from who has the secret.

    Args:
        payload: The body, exactly as it came.
        headers: The headers; their case does not matter.
        secret: `whsec_…`, or several while they are changed.
        tolerance: How many seconds its time may be off (default 300).

    Raises:
        ValueError: A header is missing, its time is too far off, or no signature is
            right. Answer it with 400.

    Example:
        >>> told = verify(await request.body(), request.headers, secret)
        >>> told["type"]
        'job.completed'
    """
    keys = parse_secrets(secret)
    if not keys:
        raise ValueError("secret must not be empty")
    body = payload.encode() if isinstance(payload, str) else payload
    said = {name.lower(): text for name, text in headers.items()}
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    if missing := [name for name in names if not said.get(name)]:
        raise ValueError(f"the webhook has no {', '.join(missing)}")
    timestamp = _timestamp(said["webhook-timestamp"], tolerance)
    right = sign(keys, said["webhook-id"], timestamp, body).split()
    given = said["webhook-signature"].split()
    # All are compared, so that the time it takes says nothing.
    if not any([_same(mine, theirs) for mine in right for theirs in given]):
        raise ValueError("no signature of the webhook is right: another secret or body")
    told: dict[str, Any] = json.loads(body)
    return told


def _same(mine: str, theirs: str) -> bool:
    return hmac.compare_digest(mine.encode(), theirs.encode())


def _timestamp(text: str, tolerance: float) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        raise ValueError(f"webhook-timestamp must be seconds, got {text[:40]!r}")
    timestamp = int(text)
    if abs(time.time() - timestamp) > tolerance:
        raise ValueError(
            f"the webhook's time {timestamp} is more than {tolerance:g} s off: it is "
            "an old one, or a clock is wrong"
        )
    return timestamp


def _key(text: object) -> bytes:
    if not isinstance(text, str):
        kind = type(text).__name__
        raise TypeError(f"webhook_secret must hold strings, got a {kind}")
    try:
        key = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.strip().startswith(_PREFIX) or not _LEAST <= len(key) <= _MOST:
        raise ValueError(
            f"webhook_secret must be {_PREFIX!r} and base64 of {_LEAST} to {_MOST} "
            f"bytes, got something else of {len(text)} characters; "
            "adk_oban.webhooks.new_secret() makes one"
        )
    return key


def _url(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"url must be a string, got {show(value)}")
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("http", "https") and parts.hostname is not None
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"url is not a URL ({error}): {show(value)}") from None
    if not known or not value.isprintable() or " " in value:
        raise ValueError(f"url must be http:// or https://, got {show(value)}")
    if len(value) > MAX_URL_LENGTH:
        raise ValueError(
            f"url must be at most {MAX_URL_LENGTH} characters, got {len(value)}"
        )
    return check_json("url", value)


def _events(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"events must be a list of strings, got {show(value)}")
    events = tuple(value)
    if not events or any(event not in ENDS for event in events):
        raise ValueError(f"events must be some of {ENDS!r}, got {show(events)}")
    return events
