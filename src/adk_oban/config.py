"""Settings: what is not said as an argument comes from the environment or a file.

Files are `adk-oban.toml` and then `[tool.adk-oban]` in `pyproject.toml`, in the current
folder:

```toml
dsn = "postgresql://localhost/my_app"        # ADK_OBAN_DSN
direct_dsn = "postgresql://localhost/my_app" # ADK_OBAN_DIRECT_DSN, without a pooler
prefix = "public"                            # ADK_OBAN_PREFIX
agents = ["my_app.agents", "./agents"]       # ADK_OBAN_AGENTS=my_app.agents,./agents
webhook_secret = "whsec_..."                 # ADK_OBAN_WEBHOOK_SECRET
queues = { agents = 10, scheduled = 5 }      # ADK_OBAN_QUEUES=agents:10,scheduled:5
```
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .agents import AgentSource


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment and the files say.

    Attributes:
        dsn: Where the database is; None when nothing says it.
        direct_dsn: Where it is without a pooler such as pgbouncer in between.
        prefix: The PostgreSQL schema of the tables.
        queues: Names of queues and how many jobs each runs at once.
        agents: What jobs may name, as `parse_agents` takes it.
        webhook_secret: What webhooks are signed with; several with spaces between.
    """

    dsn: str | None = None
    prefix: str = "public"
    queues: dict[str, int] = field(default_factory=dict)
    agents: tuple[str, ...] = ()
    direct_dsn: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)


def load_settings(
    folder: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Return the settings of a folder and an environment.

    Args:
        folder: Where the files are (default: the current folder).
        environ: The environment (default: the process's).

    Raises:
        ValueError: A file or a variable is not understood; the message names it.
    """
    told = _file(folder or Path.cwd())
    if dsn := environ.get("ADK_OBAN_DSN"):
        told["dsn"] = dsn
    if direct_dsn := environ.get("ADK_OBAN_DIRECT_DSN"):
        told["direct_dsn"] = direct_dsn
    if prefix := environ.get("ADK_OBAN_PREFIX"):
        told["prefix"] = prefix
    if queues := environ.get("ADK_OBAN_QUEUES"):
        told["queues"] = parse_queues(queues.split(","))
    if agents := environ.get("ADK_OBAN_AGENTS"):
        told["agents"] = agents.split(",")
    if secret := environ.get("ADK_OBAN_WEBHOOK_SECRET"):
        told["webhook_secret"] = secret
    return Settings(
        dsn=told.get("dsn"),
        prefix=told.get("prefix", "public"),
        queues=dict(told.get("queues", {})),
        agents=tuple(item.strip() for item in told.get("agents", ())),
        direct_dsn=told.get("direct_dsn"),
        webhook_secret=told.get("webhook_secret"),
    )


def parse_queues(items: Sequence[str]) -> dict[str, int]:
    """Return queues from strings such as `"agents:10"`.

    Raises:
        ValueError: One has no limit, or not a positive one.

    Example:
        >>> parse_queues(["agents:10", "scheduled:5"])
        {'agents': 10, 'scheduled': 5}
    """
    queues: dict[str, int] = {}
    for item in items:
        name, _, limit = item.strip().partition(":")
        if not name or not limit.isdecimal() or int(limit) < 1:
            raise ValueError(
                f"queue must be NAME:LIMIT with a limit of 1 or more, got {item!r}"
            )
        queues[name] = int(limit)
    return queues


def parse_agents(items: Sequence[str]) -> list[str | Path | Mapping[str, AgentSource]]:
    """Return agents from strings, as `AgentRegistry` takes them.

    An item is the name of a module or package that may be imported, `NAME=MODULE:AGENT`
    to give an agent a name, or the path of an agents folder (with a slash in it).

    Example:
        >>> parse_agents(["my_app.agents", "helper=my_app.agents:helper", "./agents"])
    """
    parsed: list[str | Path | Mapping[str, AgentSource]] = []
    for item in items:
        name, equals, source = item.partition("=")
        if equals:
            parsed.append({name.strip(): source.strip()})
        elif "/" in item or os.sep in item:
            parsed.append(Path(item))
        else:
            parsed.append(item)
    return parsed


def _file(folder: Path) -> dict[str, Any]:
    own, project = folder / "adk-oban.toml", folder / "pyproject.toml"
    if own.is_file():
        return _checked(_read(own), own.name)
    if project.is_file():
        tool = _read(project).get("tool", {})
        return _checked(tool.get("adk-oban", {}), "[tool.adk-oban] in pyproject.toml")
    return {}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not valid TOML: {error}") from None


def _checked(told: dict[str, Any], where: str) -> dict[str, Any]:
    kinds = {
        "dsn": str,
        "direct_dsn": str,
        "prefix": str,
        "queues": dict,
        "agents": list,
        "webhook_secret": str,
    }
    for key, value in told.items():
        if key not in kinds:
            raise ValueError(
                f"{where} has the unknown key {key!r}; known are {sorted(kinds)!r}"
            )
        if not isinstance(value, kinds[key]):
            raise ValueError(
                f"{where}: {key} must be a {kinds[key].__name__}, got {value!r}"
            )
    for name, limit in told.get("queues", {}).items():
        if type(limit) is not int or limit < 1:
            raise ValueError(f"{where}: queue {name!r} needs a limit, got {limit!r}")
    for agent in told.get("agents", ()):
        if not isinstance(agent, str):
            raise ValueError(f"{where}: agents must be strings, got {agent!r}")
    return dict(told)
