"""A PostgreSQL of our own, for development, demos and tests: nothing to install.

The server listens on a Unix socket in a private folder, is shared by all processes
that name the same data folder, and is gone a moment after the last of them.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

import platformdirs
import psycopg

from . import _postgres_guard
from ._postgres_binaries import Account, find_account, find_binaries, reachable
from .errors import EmbeddedPostgresError

_START_TIMEOUT = 30.0  # seconds
_STOP_TIMEOUT = 15.0  # seconds


def default_data_dir() -> Path:
    """Return the folder of the server that commands use when there is no DSN.

    `$ADK_OBAN_DATA`, else `adk-oban/postgres` in the user's data folder; for root,
    whose home no other account can enter, `/var/lib/adk-oban/postgres`.
    """
    if named := os.environ.get("ADK_OBAN_DATA"):
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/adk-oban/postgres")
    return platformdirs.user_data_path("adk-oban") / "postgres"


class EmbeddedPostgres:
    """A PostgreSQL server that runs while it is used.

    Several processes that name the same folder share one server; it stops when the
    last of them stops it or dies, even by SIGKILL. (A child made by `fork` without
    `exec` counts as a user too.)

    Args:
        data: The folder for its data, made when it is missing, kept when it stops.
            None (default): a temporary one, without fsync, deleted at the end.
        tcp: Whether it listens on a free port of 127.0.0.1 too, with a password that
            stands in `dsn` (default False).

    Attributes:
        dsn: Where the database is, once it has started.

    Raises:
        EmbeddedPostgresError: At the start: no PostgreSQL was found, or it did not
            come up, or the data are of another version.

    Example:
        >>> async with EmbeddedPostgres() as postgres:
        ...     async with await AsyncConnection.connect(postgres.dsn) as conn: ...
    """

    def __init__(self, data: str | Path | None = None, *, tcp: bool = False) -> None:
        self.dsn = ""
        self._temporary = data is None
        self._data = None if data is None else Path(data).absolute()
        self._tcp = tcp
        self._user: int | None = None  # our write end of the FIFO

    def start(self) -> Self:
        """Start the server, or join the one that others have started.

        Raises:
            EmbeddedPostgresError: It cannot be done; the message says why.
        """
        if self._user is not None:
            return self
        account = find_account()
        base = self._base(account)
        try:
            with _locked(base):
                dsn = self._join(base) or self._launch(base, account)
        except BaseException:
            self._leave()
            if self._temporary:
                shutil.rmtree(base, ignore_errors=True)
            raise
        self._data = base
        self.dsn = dsn
        return self

    def stop(self) -> None:
        """Leave the server, which stops when nobody else uses it.

        Waits until it has stopped in that case. Safe before `start`, and twice.
        """
        base = self._data
        if self._user is None or base is None:
            return
        self._leave()
        fifo = base / "users"
        with suppress(FileNotFoundError):
            if not _has_other_users(fifo):
                _wait(lambda: not fifo.exists(), _STOP_TIMEOUT)
        if self._temporary:
            shutil.rmtree(base, ignore_errors=True)
            self._data = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def _base(self, account: Account) -> Path:
        if self._data is None:
            base = Path(tempfile.mkdtemp(prefix="adk-oban-"))
            base.chmod(0o711)  # the server's account may pass, nobody may look
            return base
        self._data.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not reachable(self._data, account):
            raise EmbeddedPostgresError(
                f"as root PostgreSQL runs under another account, which cannot enter "
                f"{str(self._data)!r}; name another folder (ADK_OBAN_DATA), or do not "
                "run as root"
            )
        return self._data

    def _join(self, base: Path) -> str | None:
        """Become a user of the server that runs, if one does."""
        fifo = base / "users"
        try:
            self._user = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # no FIFO, or nobody holds its other end
            return None
        # Its starter may have died before it was up.
        return self._dsn(base, _await_ready(base))

    def _launch(self, base: Path, account: Account) -> str:
        """Start a server with a guard that stops it after its last user."""
        _end_orphan(base / "pgdata")
        (base / "pgdata" / "postmaster.pid").unlink(missing_ok=True)
        for gone in base.glob("run-*"):
            shutil.rmtree(gone, ignore_errors=True)
        run = Path(tempfile.mkdtemp(prefix="run-", dir=base))
        run.chmod(0o711)
        sockets = Path(tempfile.mkdtemp(prefix="pgs-"))  # 107 bytes are all it may have
        account.own(sockets)
        fifo, users = run / "users", base / "users"
        delete = [sockets, run, *([base] if self._temporary else [])]
        # From here on the guard clears up, whatever becomes of this process.
        self._user = _start_guard(fifo, base, account, delete)
        binaries = find_binaries(account, run / "bin")
        self._init(base, run / "pgdata", account, binaries.folder)
        _check_version(base / "pgdata", binaries.major)
        command = self._command(base, binaries.folder, sockets)
        fifo.rename(users)
        os.write(self._user, json.dumps(command).encode() + b"\n")
        return self._dsn(base, _await_ready(base))

    def _init(self, base: Path, new: Path, account: Account, folder: Path) -> None:
        """Make the cluster where nobody else does, and move it when it is whole."""
        pgdata, password = base / "pgdata", base / "password"
        if pgdata.exists():
            return
        new.mkdir(mode=0o700)
        account.own(new)
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(16))
        account.own(password)
        account.run(
            *(folder / "initdb", "-D", new, "-U", "postgres", "--encoding=UTF8"),
            *("--no-locale", "--auth-local=trust", "--auth-host=scram-sha-256"),
            f"--pwfile={password}",
            *(["--no-sync"] if self._temporary else []),
        )
        new.rename(pgdata)

    def _command(self, base: Path, folder: Path, sockets: Path) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "log_min_messages": "warning",
            "max_connections": "200",
            "timezone": "UTC",
        }
        if self._temporary:
            fast = ("fsync", "synchronous_commit", "full_page_writes")
            settings |= dict.fromkeys(fast, "off")
        port = str(_free_port()) if self._tcp else "5432"
        command = [str(folder / "postgres"), "-D", str(base / "pgdata")]
        command += ["-k", str(sockets), "-p", port]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _dsn(self, base: Path, server: _Postmaster) -> str:
        if not self._tcp:
            return (
                f"postgresql://postgres@/postgres?host={quote(server.sockets, safe='')}"
                f"&port={server.port}"
            )
        if not server.address:
            raise EmbeddedPostgresError(
                f"the server of {str(base)!r} was started without TCP; stop those that "
                "use it first"
            )
        password = quote((base / "password").read_text(), safe="")
        return (
            f"postgresql://postgres:{password}@{server.address}:{server.port}/postgres"
        )

    def _leave(self) -> None:
        user, self._user = self._user, None
        if user is not None:
            os.close(user)


def _start_guard(fifo: Path, base: Path, account: Account, delete: list[Path]) -> int:
    """Start the guard; return our end of its FIFO, which takes the command."""
    os.mkfifo(fifo, 0o600)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        user = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        plan = {
            "fifo": reader,
            "users": str(base / "users"),
            "lock": str(base / "lock"),
            "log": str(base / "postgres.log"),
            "uid": account.uid,
            "gid": account.gid,
            "delete": [str(path) for path in delete],
        }
        guard = [sys.executable, "-I", "-S", str(_postgres_guard.__file__)]
        subprocess.run([*guard, json.dumps(plan)], pass_fds=[reader], check=True)
    finally:
        os.close(reader)
    return user


class _Postmaster:
    """What `postmaster.pid` says of the server that runs."""

    def __init__(self, lines: list[str]) -> None:
        self.pid = int(lines[0])
        self.port = lines[3]
        self.sockets = lines[4]
        self.address = lines[5]
        self.ready = lines[7] == "ready"

    @classmethod
    def read(cls, pgdata: Path) -> Self | None:
        """Return it, or None when no server has come so far."""
        with suppress(OSError, ValueError):
            text = (pgdata / "postmaster.pid").read_text()
            lines = [line.strip() for line in text.splitlines()]
            if len(lines) >= 8:
                return cls(lines)
        return None


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    with open(base / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _await_ready(base: Path) -> _Postmaster:
    pgdata, fifo = base / "pgdata", base / "users"

    def ready() -> _Postmaster | None:
        server = _Postmaster.read(pgdata)
        return server if server is not None and server.ready else None

    # The guard takes the FIFO away when the server has exited.
    up = _wait(lambda: ready() is not None or not fifo.exists(), _START_TIMEOUT)
    if up and (server := ready()):
        return server
    log = base / "postgres.log"
    tail = log.read_text(errors="replace")[-1500:] if log.exists() else "(no log)"
    raise EmbeddedPostgresError(
        f"PostgreSQL did not come up in {str(base)!r} within {_START_TIMEOUT:g} s; its "
        f"log ends with:\n{tail}"
    )


def _has_other_users(fifo: Path) -> bool:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(reader, 1) != b""
    except BlockingIOError:
        return True
    finally:
        os.close(reader)


def _end_orphan(pgdata: Path) -> None:
    """Stop a server whose guard was killed, so that nobody would ever stop it."""
    server = _Postmaster.read(pgdata)
    if server is None or not Path(server.sockets, f".s.PGSQL.{server.port}").exists():
        return
    dsn = f"postgresql://postgres@/postgres?host={quote(server.sockets, safe='')}"
    try:
        with psycopg.connect(dsn, port=server.port, connect_timeout=2) as conn:
            row = conn.execute("SHOW data_directory").fetchone()
    except psycopg.OperationalError:
        return  # gone, or not the one that the file tells of
    if row == (str(pgdata),):
        os.kill(server.pid, signal.SIGINT)
        _wait(lambda: not (pgdata / "postmaster.pid").exists(), _STOP_TIMEOUT)
        shutil.rmtree(server.sockets, ignore_errors=True)


def _check_version(pgdata: Path, major: int) -> None:
    found = (pgdata / "PG_VERSION").read_text().strip()
    if found != str(major):
        raise EmbeddedPostgresError(
            f"the data in {str(pgdata)!r} are of PostgreSQL {found}, and the one found "
            f"here is {major}: name the other's folder in ADK_OBAN_PG_BIN, or use "
            "another data folder (ADK_OBAN_DATA)"
        )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
