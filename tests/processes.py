"""Real processes for tests: start, read what they print, kill, wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
STDERR = Path("/dev/stderr")


class Process:
    """A Python program that runs, whose lines of output are read one by one."""

    def __init__(
        self, *command: str, env: dict[str, str], cwd: Path, log: Path
    ) -> None:
        with log.open("a") as stderr:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **env},
                cwd=cwd,
            )

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def line_with(self, text: str) -> str:
        while text not in (line := self.line()):
            assert self.popen.poll() is None or line, f"ended without saying {text!r}"
        return line

    def kill(self, number: int = signal.SIGKILL) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(30)

    def close(self) -> None:
        if self.popen.poll() is None:
            self.kill()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def python(
    *arguments: str,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
    log: Path = STDERR,
) -> Iterator[Process]:
    """Run Python with arguments; killed at the end if it still runs."""
    process = Process(sys.executable, *arguments, env=env or {}, cwd=cwd, log=log)
    try:
        yield process
    finally:
        process.close()


def eventually(true: Callable[[], object], seconds: float = 15) -> None:
    """Wait until something is true, and fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
