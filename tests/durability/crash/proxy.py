"""A network of our own between a worker and its server: it can be cut, and can hang."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from . import process


class Proxy:
    """Passes TCP connections on to the Unix socket of a server, in its own process.

    Args:
        folder: Where it keeps its files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._target = folder / "target"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pid: int | None = None

    def dsn(self, dsn: str) -> str:
        """Return what a worker connects to instead of a server's own DSN."""
        port = self._listener.getsockname()[1]
        return make_conninfo(dsn, host="127.0.0.1", port=port, gssencmode="disable")

    def lead_to(self, dsn: str) -> None:
        """Lead new connections to this server."""
        parts = conninfo_to_dict(dsn)
        self._target.write_text(f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}")

    def start(self) -> None:
        """Let connections through."""
        self._folder.joinpath("proxy").mkdir(exist_ok=True)
        # The listening socket stays ours, so that the port does.
        self._pid = process.fork(
            lambda: asyncio.run(self._serve()), self._folder / "proxy"
        )

    def cut(self) -> None:
        """Break all connections; new ones are not answered."""
        pid, self._pid = self._pid, None
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            process.wait(pid)

    def hang(self) -> None:
        """Let nothing through, and keep the connections."""
        assert self._pid is not None
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let what has waited through."""
        assert self._pid is not None
        os.kill(self._pid, signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self.cut()
        self._listener.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listener)
        await server.serve_forever()

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            there = await asyncio.open_unix_connection(self._target.read_text())
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass(reader, there[1]), _pass(there[0], writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
