"""Opens connection pools, with a clear word when there is no connection."""

from __future__ import annotations

import asyncio
import inspect
import select
from collections.abc import Awaitable, Callable
from typing import Any

from psycopg import AsyncConnection, Error, OperationalError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from .errors import DatabaseUnavailableError

_CONNECT_TIMEOUT = 5  # seconds


async def open_pool(dsn: str, *, max_size: int) -> AsyncConnectionPool:
    """Return an open pool.

    Args:
        dsn: Where the database is; it may be a pooler such as pgbouncer.
        max_size: How many connections there may be.

    Raises:
        DatabaseUnavailableError: There is no connection; the message says why.
    """
    try:
        dsn = _with_timeout(dsn)
        async with await AsyncConnection.connect(dsn) as conn:
            pooled = await is_pooled(conn)
    except Error as error:
        raise _unavailable(dsn, error) from error

    async def check(conn: AsyncConnection) -> None:
        try:
            await check_connection(conn)
        except Exception:
            # Those that lie idle have mostly ended with it. The pool would find out of
            # one at a time, and pause before the next one for longer and longer. It
            # has them all out meanwhile, so that nobody may interrupt it.
            await asyncio.shield(pool.check())
            raise

    pool = AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=max_size,
        open=False,
        # Behind a pooler, a statement may meet another connection than its preparation.
        kwargs={"prepare_threshold": None} if pooled else None,
        check=check,
        # Given up early, since the next caller tries afresh and at once.
        reconnect_timeout=5,
    )
    await pool.open()
    return pool


type Connect = Callable[[], Awaitable[AsyncConnection]]
"""Makes a direct connection, in autocommit mode."""


def direct(pool: AsyncConnectionPool, dsn: str | None) -> Connect:
    """Return what connects to a pool's database without a pooler in between.

    It may be called in another event loop than the current one, which is that of the
    pool.

    Args:
        pool: The pool.
        dsn: Where the database itself is; None for where the pool connects to.

    Raises:
        DatabaseUnavailableError: From what is returned: there is no connection, or a
            pooler answers there.
    """
    home = asyncio.get_running_loop()

    async def connect() -> AsyncConnection:
        options: dict[str, Any] = {}
        where = dsn
        if where is None:
            where = await _resolved(pool.conninfo, home) or ""
            options = dict(await _resolved(pool.kwargs, home) or {})
            options.pop("row_factory", None)
        options["autocommit"] = True
        try:
            conn = await AsyncConnection.connect(_with_timeout(where), **options)
        except Error as error:
            raise _unavailable(where, error) from error
        try:
            pooled = await is_pooled(conn)
        except BaseException:
            await conn.close()
            raise
        if pooled:
            await conn.close()
            raise _pooled(where)
        return conn

    return connect


async def _resolved(value: Any, home: asyncio.AbstractEventLoop) -> Any:
    # As the pool does: it may be a function, which may be async.
    if not callable(value):
        return value
    found = value()
    if inspect.iscoroutine(found):
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(found, home))
    return found


async def check_direct(connect: Connect, pooled: AsyncConnection) -> None:
    """Refuse a direct connection that there is not, or that leads elsewhere.

    Args:
        connect: Makes it.
        pooled: A connection of the pool.

    Raises:
        DatabaseUnavailableError: There is none, or a pooler answers there.
        ValueError: It is one to another database.
    """
    conn = await connect()
    try:
        here, there = await _database(pooled), await _database(conn)
    finally:
        await conn.close()
    if here != there:
        raise ValueError(
            f"direct_dsn leads to another database ({there[0]!r}) than dsn does "
            f"({here[0]!r}), or to another server: give both for the same one"
        )


async def _database(conn: AsyncConnection) -> tuple[Any, ...]:
    sql = "SELECT current_database(), pg_postmaster_start_time()"
    async with conn.cursor(row_factory=tuple_row) as cursor:
        return await (await cursor.execute(sql)).fetchone() or ()


async def is_pooled(conn: AsyncConnection) -> bool:
    """Return whether a pooler such as pgbouncer answers on a connection.

    A pooler makes up the process id that a client is told when it connects, since the
    server's process is another one for each transaction.
    """
    async with conn.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute("SELECT pg_backend_pid()")).fetchone()
    return row != (conn.info.backend_pid,)


def _unavailable(dsn: str, error: Exception) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(
        f"cannot connect to {redacted(dsn)}: {error}".strip()
        + "\nIs the server up, and the DSN right? It comes from the argument, "
        "ADK_OBAN_DSN, adk-oban.toml or [tool.adk-oban]. 'adk-oban postgres' runs "
        "a server of its own"
    )


def _pooled(dsn: str) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(
        f"{redacted(dsn)} is a connection pooler such as pgbouncer, and adk-oban needs "
        "a direct connection too, to listen and to hold locks on: give the DSN of the "
        "PostgreSQL server itself as direct_dsn, --direct-dsn or ADK_OBAN_DIRECT_DSN"
    )


def _with_timeout(dsn: str) -> str:
    if "connect_timeout" in conninfo_to_dict(dsn):
        return dsn
    return make_conninfo(dsn, connect_timeout=_CONNECT_TIMEOUT)


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
