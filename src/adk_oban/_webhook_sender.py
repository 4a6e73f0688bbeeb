"""Posts signed webhooks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import httpx

from .webhooks import sign

_TIMEOUT = 15.0  # seconds for all of it, as the specification has it
_EXCERPT = 300  # bytes of a refusal that are kept


class WebhookSender:
    """Posts webhooks over connections that are kept for a while.

    Args:
        keys: What they are signed with; none: there are no webhooks.
        timeout: How many seconds a receiver gets (default 15).
    """

    def __init__(
        self, keys: tuple[bytes, ...] = (), *, timeout: float = _TIMEOUT
    ) -> None:
        self._keys = keys
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None

    @property
    def signs(self) -> bool:
        """Whether there is a secret."""
        return bool(self._keys)

    async def send(self, message: Message) -> bool:
        """Post a message; return whether the receiver took it, and still exists.

        Raises:
            ConnectionError: The receiver could not be reached.
            RuntimeError: There is no secret.
            TimeoutError: It did not answer in time.
            httpx.HTTPStatusError: It answered with neither 2xx nor 410.
        """
        if not self._keys:
            raise RuntimeError(
                "this worker has no webhook_secret, so it sends no webhooks; set "
                "ADK_OBAN_WEBHOOK_SECRET, or AdkOban(webhook_secret=...)"
            )
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(message)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise TimeoutError(
                f"webhook {message.url} did not answer within {self._timeout:g} s"
            ) from error
        except httpx.TransportError as error:
            raise ConnectionError(
                f"webhook {message.url} could not be reached: {error!r}"
            ) from error

    async def _post(self, message: Message) -> bool:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout)
        async with self._client.stream(
            "POST",
            message.url,
            content=message.body,
            headers=self._headers(message),
            follow_redirects=False,
        ) as response:
            if response.is_success or response.status_code == httpx.codes.GONE:
                return response.is_success
            excerpt = await _excerpt(response)
        raise httpx.HTTPStatusError(
            f"webhook {message.url} answered {response.status_code}: {excerpt!r}",
            request=response.request,
            response=response,
        )

    def _headers(self, message: Message) -> dict[str, str]:
        now = int(time.time())
        return {
            "content-type": "application/json",
            "user-agent": "adk-oban",
            # Nothing is unpacked that a receiver sends.
            "accept-encoding": "identity",
            "webhook-id": message.id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(self._keys, message.id, now, message.body),
        }

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted.

    Attributes:
        id: The same on each try.
        url: Where to.
        body: JSON.
    """

    id: str
    url: str
    body: bytes = field(repr=False)


async def _excerpt(response: httpx.Response) -> str:
    read = b""
    async for chunk in response.aiter_raw():
        read += chunk[:_EXCERPT]
        if len(read) >= _EXCERPT:
            break
    return read[:_EXCERPT].decode("utf-8", "replace")
