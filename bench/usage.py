"""What processes use: time, CPU, memory."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """A reading of this process.

    Attributes:
        at: When, in seconds since the epoch.
        cpu: Seconds of CPU, of all threads.
        trips: Round trips to PostgreSQL, where they are counted.
        transactions: Transactions that ended, where they are counted.
    """

    at: float
    cpu: float
    trips: int
    transactions: int

    @classmethod
    def now(cls, trips: int = 0, transactions: int = 0) -> Usage:
        """Read it."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(time.time(), used.ru_utime + used.ru_stime, trips, transactions)


def resident() -> float:
    """Return this process's resident memory in MB (its peak where /proc is not)."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if os.uname().sysname == "Linux" else 1024**2)


def cpu_of_server(postmaster: int) -> float | None:
    """Return the seconds of CPU of a PostgreSQL server, None where /proc is not."""
    if not Path("/proc/self/stat").exists():
        return None
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended, and counts among its parent's children
            continue
        own, ended = map(int, fields[11:13]), map(int, fields[13:15])
        if int(stat.parent.name) == postmaster:
            ticks += sum(own) + sum(ended)
        elif int(fields[1]) == postmaster:
            ticks += sum(own)
    return ticks / os.sysconf("SC_CLK_TCK")
