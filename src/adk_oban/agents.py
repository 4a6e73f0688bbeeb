"""Which agent a job names: a registry, an allow-list, and inline configs.

Nothing unknown is imported: a name in a job's args is looked up among what the
operator registered or allowed, and anything else is refused.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints

from google.adk.apps import App
from google.adk.cli.utils.agent_loader import AgentLoader
from google.adk.workflow import BaseNode

from ._inline import InlineAgent, Tool, named_tools
from .errors import UnknownAgentError

type Agent = BaseNode | App
"""What ADK's Runner can run: an agent, a Workflow, or an `App` around one."""

type AgentFactory = Callable[[], Agent | Awaitable[Agent]]
"""Makes an agent; it is called afresh for each job."""

type AgentSource = Agent | AgentFactory | ModuleType | str
"""What a name can be registered for; a string is `"module"` or `"module:name"`."""

type Agents = (
    Mapping[str, AgentSource]
    | Iterable[str | ModuleType | Path | Mapping[str, AgentSource]]
)
"""What an operator allows to run; see `AgentRegistry`."""


@dataclass(frozen=True, slots=True)
class FoundAgent:
    """An agent that is ready to run.

    Attributes:
        agent: The agent, Workflow or App.
        fresh: Whether it was made for this job alone, and is closed after it.
    """

    agent: Agent
    fresh: bool


class AgentRegistry:
    """The agents that jobs may name.

    Args:
        agents: A mapping of names to agents, `App`s, factories or modules; or a list
            whose items are modules or names of modules and packages that may be
            imported (with all below them), folders of agents as `adk create` lays
            them out (`pathlib.Path`), and such mappings.
        tools: The tools that inline configs may name: a mapping, or a list of
            functions and ADK tools that are known by their own names.

    Raises:
        TypeError: An item is none of these.
        ValueError: A folder does not exist, or two tools have one name.

    Example:
        >>> AgentRegistry({"helper": helper_agent})
        >>> AgentRegistry(["my_app.agents", Path("agents"), {"helper": make_helper}])
    """

    def __init__(
        self, agents: Agents, *, tools: Mapping[str, Tool] | Iterable[Tool] = ()
    ) -> None:
        self._named: dict[str, AgentSource] = {}
        self._allowed: list[str] = []
        self._folders: list[AgentLoader] = []
        self._tools = named_tools(tools)
        if isinstance(agents, str):
            raise TypeError(f"agents must be a mapping or a list, got {agents!r}")
        for item in [agents] if isinstance(agents, Mapping) else agents:
            self._add(item)

    def _add(self, item: object) -> None:
        match item:
            case Mapping():
                for name, source in item.items():
                    self._register(name, source)
            case ModuleType():
                self._allowed.append(item.__name__)
            case str() if _is_module_name(item):
                self._allowed.append(item)
            case Path():
                if not item.is_dir():
                    raise ValueError(f"agents folder {str(item)!r} does not exist")
                self._folders.append(AgentLoader(str(item)))
            case _:
                raise TypeError(
                    "agents must hold modules, names of modules or packages, folders "
                    f"(pathlib.Path) or mappings of names to agents, got {item!r}"
                )

    def _register(self, name: object, source: object) -> None:
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"an agent's name must be a non-empty string, got {name!r}")
        known = BaseNode | App | ModuleType | str
        if not isinstance(source, known) and not callable(source):
            raise TypeError(
                f"agent {name!r} must be an ADK agent, an App, a function that makes "
                f"one, a module or 'module:name', got {source!r}"
            )
        self._named[name] = cast(AgentSource, source)

    def check(self, name: str) -> None:
        """Refuse an agent that could not run here.

        Raises:
            UnknownAgentError: It is neither registered nor allowed, or there is no
                agent where the name points to.
        """
        self._source(name)

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Refuse an inline config that could not run here.

        Raises:
            ValueError: A field is missing, unknown or wrong, or names a tool that is
                not registered.
        """
        InlineAgent.parse(config).check(self._tools)

    async def find(self, name: str) -> FoundAgent:
        """Return the agent of this name, made afresh where a factory makes it.

        Raises:
            UnknownAgentError: As `check` does.
        """
        source = self._source(name)
        if isinstance(source, BaseNode | App):
            return FoundAgent(source, fresh=False)
        made = source()
        agent = await made if inspect.isawaitable(made) else made
        if not isinstance(agent, BaseNode | App):
            raise UnknownAgentError(
                name, f"is made by a function that returned {agent!r}, not an agent"
            )
        return FoundAgent(agent, fresh=True)

    def build(self, config: Mapping[str, Any]) -> FoundAgent:
        """Return the agent that an inline config describes.

        Raises:
            ValueError: As `check_config` does.
        """
        agent = InlineAgent.parse(config).build(self._tools)
        return FoundAgent(agent, fresh=True)

    def name_of(self, agent: object) -> str:
        """Return the name under which an agent object is registered.

        Raises:
            TypeError: It is not; the message says how to register it.
        """
        for name, source in self._named.items():
            if source is agent:
                return name
        raise TypeError(
            f"agent {getattr(agent, 'name', agent)!r} is not registered, so a worker "
            "could not find it; give it a name in AdkOban(agents={'name': agent}), or "
            "pass the name of its module"
        )

    def app_name_of(self, name: str | None, agent: Agent | None = None) -> str | None:
        """Return the app name that an agent brings along, if it does.

        An `App`'s own name, or the folder's for an agent of an agents folder, as
        `adk web` has it.

        Args:
            name: The agent's name; None for an inline one.
            agent: The agent, when it has been made already.

        Raises:
            UnknownAgentError: As `check` does.
        """
        if name is not None and agent is None:
            source = self._source(name)
            agent = source if isinstance(source, BaseNode | App) else None
        if isinstance(agent, App):
            return agent.name
        if name is None or name in self._named or self._folder_of(name) is None:
            return None
        return name

    def _source(self, name: str) -> Agent | AgentFactory:
        if name in self._named:
            source = self._named[name]
            if isinstance(source, ModuleType):
                return _agent_in(source, None, name)
            if isinstance(source, str):
                return _import_agent(source, name)
            return source
        if _is_module_name(name) and self._is_allowed(name.partition(":")[0]):
            return _import_agent(name, name)
        if folder := self._folder_of(name):
            return cast(Agent, folder.load_agent(name))
        raise UnknownAgentError(name, self._refusal())

    def _is_allowed(self, module: str) -> bool:
        return any(module == p or module.startswith(f"{p}.") for p in self._allowed)

    def _folder_of(self, name: str) -> AgentLoader | None:
        return next((f for f in self._folders if name in f.list_agents()), None)

    def _refusal(self) -> str:
        folders = [name for folder in self._folders for name in folder.list_agents()]
        names = ", ".join(sorted([*self._named, *folders])) or "none"
        allowed = ", ".join(sorted(self._allowed)) or "none"
        return (
            f"is not registered here (registered: {names}; modules that may be "
            f"imported: {allowed}); add it to AdkOban(agents=...) or --agents"
        )


def _is_module_name(name: str) -> bool:
    module, _, attribute = name.partition(":")
    parts = [*module.split("."), *([attribute] if ":" in name else [])]
    return all(part.isidentifier() for part in parts)


def _import_agent(reference: str, name: str) -> Agent | AgentFactory:
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise
        raise UnknownAgentError(
            name, f"cannot be imported: there is no module {missing!r}"
        ) from error
    return _agent_in(module, attribute or None, name)


def _agent_in(
    module: ModuleType, attribute: str | None, name: str
) -> Agent | AgentFactory:
    """Find `app`, `root_agent` or `agent` in a module, or the attribute that is named.

    A function is only taken for a factory when it is called `agent` or says that it
    returns an agent: a job must not be able to call whatever a module holds.
    """
    for candidate in [attribute] if attribute else ["app", "root_agent", "agent"]:
        value = getattr(module, candidate, None)
        if isinstance(value, BaseNode | App):
            return value
        if isinstance(value, ModuleType) and value.__name__.startswith(
            f"{module.__name__}."
        ):
            return _agent_in(value, None, name)
        if inspect.isfunction(value) and (candidate == "agent" or _makes_agent(value)):
            return cast(AgentFactory, value)
    if attribute:
        raise UnknownAgentError(
            name,
            f"names {attribute!r} in module {module.__name__!r}, which is "
            f"{getattr(module, attribute, None)!r}: neither an agent, nor an App, nor "
            "a function that is annotated to return one",
        )
    raise UnknownAgentError(
        name,
        f"points to module {module.__name__!r}, which has none of: agent(), "
        "root_agent, app",
    )


def _makes_agent(function: Callable[..., Any]) -> bool:
    try:
        made = get_type_hints(function).get("return")
    except (NameError, TypeError):
        return False
    return isinstance(made, type) and issubclass(made, BaseNode | App)
