"""Opens connection pools, with a clear word when there is no connection."""

from __future__ import annotations

import select

from psycopg import AsyncConnection, Error, OperationalError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from .errors import DatabaseUnavailableError

_CONNECT_TIMEOUT = 5  # seconds


async def open_pool(dsn: str, *, max_size: int) -> AsyncConnectionPool:
    """Return an open pool.

    Args:
        dsn: Where the database is.
        max_size: How many connections there may be.

    Raises:
        DatabaseUnavailableError: There is no connection; the message says why.
    """
    try:
        if "connect_timeout" not in conninfo_to_dict(dsn):
            dsn = make_conninfo(dsn, connect_timeout=_CONNECT_TIMEOUT)
        async with await AsyncConnection.connect(dsn):
            pass
    except Error as error:
        raise DatabaseUnavailableError(
            f"cannot connect to {redacted(dsn)}: {error}".strip()
            + "\nIs the server up, and the DSN right? It comes from the argument, "
            "ADK_OBAN_DSN, adk-oban.toml or [tool.adk-oban]. 'adk-oban postgres' runs "
            "a server of its own"
        ) from error
    pool = AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=max_size,
        open=False,
        check=check_connection,
        # Given up early, since the next caller tries afresh and at once.
        reconnect_timeout=5,
    )
    await pool.open()
    return pool


async def check_connection(conn: AsyncConnection) -> None:
    """Refuse a connection that the server has closed; the pool then makes another.

    Costs no round trip: an idle connection has nothing to read unless it ended.

    Raises:
        OperationalError: It is closed.
    """
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    if conn.closed:
        raise OperationalError("the connection is closed")
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(conn)


def redacted(dsn: str) -> str:
    """Return a DSN without its password, for messages."""
    try:
        parts = conninfo_to_dict(dsn)
    except Error:
        return "a DSN that PostgreSQL does not understand"
    shown = {"host", "hostaddr", "port", "dbname", "user"}
    named = [f"{key}={value}" for key, value in parts.items() if key in shown]
    return " ".join(named) or "the default database"
