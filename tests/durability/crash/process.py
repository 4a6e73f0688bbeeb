"""Processes forked from this one, which has imported everything already."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

TIMEOUT = 30.0  # seconds


def fork(program: Callable[[], Any], folder: Path) -> int:
    """Run a function in a process of its own; return its id.

    What it prints goes to the file `output` in the folder.
    """
    # A lock that another thread holds would be held for ever in the child.
    assert threading.active_count() == 1, threading.enumerate()
    if pid := os.fork():
        return pid
    status = 1
    try:
        with (folder / "output").open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        program()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # without what the parent has yet to do


def wait(pid: int, timeout: float = TIMEOUT) -> int:
    """Wait for a process; return its exit code, negative for a signal."""
    deadline = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def answer[T](
    program: Callable[[], Coroutine[Any, Any, T]],
    folder: Path,
    timeout: float = 300,
) -> T:
    """Run a coroutine in a process of its own, and return what it returned.

    Raises:
        AssertionError: It failed; the message is what it printed.
    """
    file = folder / "answer"

    def run() -> None:
        file.write_bytes(pickle.dumps(asyncio.run(program())))

    code = wait(fork(run, folder), timeout)
    assert code == 0, f"ended with {code}:\n{output(folder)}"
    made: T = pickle.loads(file.read_bytes())
    return made


def output(folder: Path) -> str:
    """Return the end of what the last process printed."""
    lines = (folder / "output").read_text().splitlines()
    return "\n".join(line[:600] for line in lines[-6:])
