"""What puts the journal into agents: around models, tools and function nodes.

Only the innermost call is replaced by what is recorded. Callbacks, plugins, limits,
planners and the user's own agents run as they are, on a replay as live.
"""

from __future__ import annotations

from functools import cache

from google.adk.agents import LlmAgent
from google.adk.agents.context import Context
from google.adk.flows.llm_flows.core import _resume
from google.adk.flows.llm_flows.tools import _caller
from google.adk.models import BaseLlm
from google.adk.tools.base_tool import BaseTool
from google.adk.workflow import _tool_node
from google.adk.workflow._function_node import FunctionNode

from ._durable_gate import around_gate
from ._durable_model import around_model, around_model_choice
from ._durable_node import around_node, around_run_node
from ._durable_pause import around_decision
from ._durable_tool import around_tool
from ._intercept import intercept

_GATE = "apply_confirmation_gate"
_DECISION = "decide_resume"


@cache
def install() -> None:
    """Make agents durable in this process's jobs; outside of jobs nothing changes."""
    intercept(BaseLlm, "generate_content_async", around_model)
    # What the flow asks just before each model call, and so tells who calls.
    intercept(LlmAgent, "canonical_model_async", around_model_choice)
    intercept(BaseTool, "run_async", around_tool)
    # A function, which two modules have by its name.
    for module in (_caller, _tool_node):
        setattr(module, _GATE, around_gate(getattr(module, _GATE)))
    setattr(_resume, _DECISION, around_decision(getattr(_resume, _DECISION)))
    intercept(FunctionNode, "_run_impl", around_node)
    intercept(Context, "run_node", around_run_node)
