"""Whether an agent goes on although a call of its own waits for somebody outside.

ADK has it wait only where invocations note the places of their agents. Ours do so once
they are known to pause, and what came after the question until then would be done in
vain, and again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from google.adk.agents.invocation_context import InvocationContext
from google.adk.apps import ResumabilityConfig
from google.adk.events import Event
from google.adk.events._interrupts import extract_event_interrupt_ids

from . import _journal
from ._frame import inside

# Made without its __init__, which warns that it is experimental.
RESUMABLE = ResumabilityConfig.model_construct(is_resumable=True)
"""What makes invocations note where their agents are."""

type Decide = Callable[[InvocationContext, list[Event], dict[str, Any]], Any]


def around_decision(original: Decide) -> Decide:
    """Let an agent that has asked wait, as it does where places are noted."""

    @wraps(original)
    def decide_resume(
        context: InvocationContext, events: list[Event], tools: dict[str, Any]
    ) -> Any:
        # Inside AgentTool it is we who ask.
        is_job = _journal.current.get() is not None and inside.get() is None
        if is_job and any(extract_event_interrupt_ids(event) for event in events):
            context = context.model_copy(update={"resumability_config": RESUMABLE})
        return original(context, events, tools)

    return decide_resume
