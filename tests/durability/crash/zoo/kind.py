"""What the harness must know of a kind of agent."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.adk.agents import BaseAgent
from google.adk.apps import App
from google.adk.workflow import BaseNode


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of agent, and how it is run.

    Attributes:
        name: Its name, under which jobs name the agent too.
        make: Makes the agent.
        messages: The user's messages; the job of the last one is crashed.
        app_name: The app name of its jobs.
        ordered: Whether events of different branches come in one order only.
        width: How many steps may be in flight at once.
        swallows: Points whose exceptions ADK or a plugin takes for an answer, so that
            only a killed process crashes there: parts of their labels.
        never_twice: Tools that must not run twice, and what they return: a person is
            asked when nobody knows whether they ran.
        response: What a person answers who is asked; None: yes, it may run.
        conductors: Nodes that only run others, and do it again on each attempt.
        outages: Whether it is also run while processes are stopped, the server dies,
            and the network is cut.
        runner_opts: Fields of ADK's `RunConfig`.
    """

    name: str
    make: Callable[[], BaseNode | App]
    messages: tuple[str, ...] = ("Go.",)
    app_name: str = "zoo"
    ordered: bool = True
    width: int = 1
    swallows: tuple[str, ...] = ()
    never_twice: dict[str, Any] = field(default_factory=dict)
    response: Any = None
    conductors: tuple[str, ...] = ()
    outages: bool = False
    runner_opts: dict[str, Any] = field(default_factory=dict)


def composite[T: BaseAgent](made: type[T], **fields: Any) -> T:
    """Make an agent of a class that ADK calls deprecated, in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return made(**fields)
