"""What puts the journal into agents: around models, tools and function nodes.

Only the innermost call is replaced by what is recorded. Callbacks, plugins, limits,
planners and the user's own agents run as they are, on a replay as live.
"""

from __future__ import annotations

from functools import cache

from google.adk.agents import LlmAgent
from google.adk.agents.context import Context
from google.adk.models import BaseLlm
from google.adk.tools.base_tool import BaseTool
from google.adk.workflow._function_node import FunctionNode

from ._durable_model import around_model, around_model_choice
from ._durable_node import around_node, around_run_node
from ._durable_tool import around_tool
from ._intercept import intercept


@cache
def install() -> None:
    """Make agents durable in this process's jobs; outside of jobs nothing changes."""
    intercept(BaseLlm, "generate_content_async", around_model)
    # What the flow asks just before each model call, and so tells who calls.
    intercept(LlmAgent, "canonical_model_async", around_model_choice)
    intercept(BaseTool, "run_async", around_tool)
    intercept(FunctionNode, "_run_impl", around_node)
    intercept(Context, "run_node", around_run_node)
