"""Runs a PostgreSQL server for as long as anybody uses it; a program of its own.

Every process that uses the server holds the write end of a FIFO open, and this one the
read end. When the last user is gone, however it died, the kernel says so here, and the
server is stopped. That happens under the lock under which others join, so that nobody
joins a server that is about to stop.

It imports nothing but the standard library, since it is started by path.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

LOOK_EVERY = 0.1  # seconds
STOP_TIMEOUT = 15.0  # seconds


def main() -> None:
    """Run the server that the first argument describes, as JSON."""
    plan = json.loads(sys.argv[1])
    fifo = int(plan["fifo_fd"])
    if os.fork():  # the starter waits for this process, and not for the next
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with open(plan["log"], "ab") as log:
        server = subprocess.Popen(
            plan["command"],
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
    while server.poll() is None:
        if not _has_users(fifo):
            with open(plan["lock"]) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not _has_users(fifo):
                    _stop(server)
                    _delete(plan)
                    return
        time.sleep(LOOK_EVERY)
    _delete(plan)


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


def _delete(plan: "dict[str, list[str]]") -> None:
    for path in plan["delete"]:
        shutil.rmtree(path, ignore_errors=True)
    # Last, since it tells that all is done.
    for path in plan["unlink"]:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


if __name__ == "__main__":
    main()
