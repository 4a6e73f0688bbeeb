"""Runs a PostgreSQL server for as long as anybody uses it; a program of its own.

Every process that uses the server holds the write end of a FIFO open, and this one the
read end. When the last user is gone, however it died, the kernel says so here, and the
server is stopped. That happens under the lock under which others join, so that nobody
joins a server that is about to stop.

It imports nothing but the standard library, since it is started by path.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

LOOK_EVERY = 0.1  # seconds
STOP_TIMEOUT = 15.0  # seconds


def main() -> None:
    """Run the server whose surroundings the first argument describes, as JSON."""
    plan = json.loads(sys.argv[1])
    if os.fork():  # the starter waits for this process, and not for the next
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    command = _await_command(plan["fifo"])
    if command is None:  # the starter died before it came to that
        _delete(plan["delete"])
        return
    _serve(_start(command, plan), plan)
    _delete(plan["delete"])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(plan["users"])  # last, since it tells that all is done


def _await_command(fifo: int) -> "list[str] | None":
    """Return the line that the starter writes, or None when it is gone."""
    line = b""
    while not line.endswith(b"\n"):
        select.select([fifo], [], [])
        part = os.read(fifo, 65536)
        if not part:
            return None
        line += part
    command: list[str] = json.loads(line)
    return command


def _start(command: "list[str]", plan: "dict[str, Any]") -> "subprocess.Popen[bytes]":
    with open(plan["log"], "ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            user=plan["uid"],
            group=plan["gid"],
            extra_groups=None if plan["uid"] is None else [],
            restore_signals=True,
            preexec_fn=_default_signals,
        )


def _serve(server: "subprocess.Popen[bytes]", plan: "dict[str, Any]") -> None:
    """Return when the server has ended, by itself or after its last user."""
    while server.poll() is None:
        if not _has_users(plan["fifo"]):
            with _locked(plan["lock"]):
                if not _has_users(plan["fifo"]):
                    _stop(server)
                    return
        time.sleep(LOOK_EVERY)


@contextlib.contextmanager
def _locked(path: str) -> "Iterator[None]":
    """Keep others from coming meanwhile; none can where the folder was deleted."""
    try:
        lock = open(path)
    except FileNotFoundError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _has_users(fifo: int) -> bool:
    try:
        return os.read(fifo, 64) != b""
    except BlockingIOError:  # nothing to read, but somebody could write
        return True


def _stop(server: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(number)  # fast, then immediate shutdown, then none
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            continue
        return


def _delete(folders: "list[str]") -> None:
    """Delete folders, in which a child of the starter's may still be writing."""
    deadline = time.monotonic() + STOP_TIMEOUT
    for folder in folders:
        while os.path.exists(folder) and time.monotonic() < deadline:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
