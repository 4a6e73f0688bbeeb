"""A proxy before a PostgreSQL: it can lie as a pooler does, and cut the network."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Proxy:
    """Passes on what client and server say.

    Attributes:
        dsn: Where it listens.
        pooler: Whether it makes up process ids, as pgbouncer does.
        passing: Cleared, nothing arrives any more, as with a cable that is cut.
    """

    def __init__(self, dsn: str, *, pooler: bool) -> None:
        self._server = conninfo_to_dict(dsn)
        self.dsn = dsn
        self.pooler = pooler
        self.passing = asyncio.Event()
        self.passing.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._tasks.add(asyncio.current_task())
        host, port = str(self._server["host"]), int(self._server.get("port", 5432))
        if host.startswith("/"):
            path = f"{host}/.s.PGSQL.{port}"
            back, forth = await asyncio.open_unix_connection(path)
        else:
            back, forth = await asyncio.open_connection(host, port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, forth))
                both.create_task(self._answer(back, writer))
        finally:
            for stream in (writer, forth):
                stream.close()
            self._tasks.discard(asyncio.current_task())

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.pooler:
            await self._lie(reader, writer)
        await self._pass(reader, writer)

    async def _lie(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        kind = b""
        while kind != b"K" and (kind := await reader.read(1)):
            length = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("!i", length)[0] - 4)
            if kind == b"K":
                body = struct.pack("!i", 4_000_000) + body[4:]
            writer.write(kind + length + body)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(65536):
                await self.passing.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async def close(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def proxy(dsn: str, *, pooler: bool = False) -> AsyncIterator[Proxy]:
    """Run a proxy before the server of a DSN."""
    made = Proxy(dsn, pooler=pooler)
    listening = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    made.dsn = make_conninfo(
        dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable"
    )
    try:
        yield made
    finally:
        listening.close()
        await made.close()
