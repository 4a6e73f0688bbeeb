"""What the benchmark ran on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.database import Server


def describe(server: Server) -> dict[str, str]:
    """Return it, a line for each."""
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores ({_processor()}), {platform.system()}",
        "Python": platform.python_version(),
        "PostgreSQL": f"{server.version}, embedded, fsync on",
        "packages": ", ".join(
            f"{name} {version(name)}" for name in ("google-adk", "oban", "psycopg")
        ),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
