"""What lets `adk web` use our sessions, by a URI."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from google.adk.cli.service_registry import get_service_registry

from ._pool import open_pool
from .sessions import PostgresSessionService

logger = logging.getLogger(__name__)


class SessionServiceFromUri(PostgresSessionService):
    """What `adk web --session_service_uri adk-oban://…` makes of its URI.

    ADK finds it when the agents folder has a `services.yaml`:

    ```yaml
    services:
      - scheme: adk-oban
        type: session
        class: adk_oban.adk_web.SessionServiceFromUri
    ```

    or a `services.py` that calls `register_session_service()`.

    Args:
        uri: A PostgreSQL URI with another scheme, such as
            `adk-oban://me@localhost/my_app?prefix=jobs`, or with a unix socket
            `adk-oban://me@/my_app?host=/run/postgresql`. What PostgreSQL does not
            know in it is `prefix`, the schema of the tables (default `public`).
        max_size: How many connections there may be (default 10).
        **ignored: What ADK passes beside it, such as `agents_dir`.

    Raises:
        ValueError: `prefix` is not a usable schema name.

    Example:
        >>> sessions = SessionServiceFromUri("adk-oban://me@localhost/my_app")
    """

    def __init__(self, uri: str, *, max_size: int = 10, **ignored: Any) -> None:
        if unknown := sorted(ignored.keys() - {"agents_dir"}):
            logger.warning("session service options are ignored: %s", unknown)
        dsn, prefix = _split_uri(uri)
        super().__init__(partial(open_pool, dsn, max_size=max_size), prefix=prefix)


def register_session_service(scheme: str = "adk-oban") -> None:
    """Let `adk web --session_service_uri adk-oban://…` use this service.

    To be called in the `services.py` of the agents folder.

    Args:
        scheme: The URI's scheme (default `"adk-oban"`).

    Example:
        >>> # agents/services.py
        >>> from adk_oban.adk_web import register_session_service
        >>> register_session_service()
    """
    registry = get_service_registry()
    registry.register_session_service(scheme, SessionServiceFromUri)


def _split_uri(uri: str) -> tuple[str, str]:
    # Not by urllib, which puts "+" for a blank, and PostgreSQL does not read it so.
    address, _, query = uri.partition(":")[2].partition("?")
    options = [option.partition("=") for option in query.split("&") if option]
    prefix = next((value for name, _, value in options if name == "prefix"), "public")
    rest = "&".join("".join(option) for option in options if option[0] != "prefix")
    return f"postgresql:{address}" + (f"?{rest}" if rest else ""), prefix
