"""Gets a worker ready before its first job: ADK imports much of itself at first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncGenerator

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.genai import types

# ADK tries to import it in every run; where its own dependency is missing, Python finds
# and compiles the module each time anew, which takes a third of a short run.
_TRIED_EACH_RUN = "google.adk.agents.remote_a2a_agent"

_done = False


async def warm_up() -> None:
    """Run an agent with a tool once, in memory; the second time there is nothing to do.

    Takes about a quarter of a second, which the first job would take otherwise.
    """
    global _done
    if _done:
        return
    _done = True
    try:
        importlib.import_module(_TRIED_EACH_RUN)
    except ImportError:
        # As Python has it for a module that is known not to be there.
        sys.modules[_TRIED_EACH_RUN] = None  # type: ignore[assignment]  # what importlib documents
    agent = LlmAgent(name="warm_up", model=_Model(model="warm-up"), tools=[_tool])
    sessions = InMemorySessionService()
    runner = Runner(app_name="warm_up", agent=agent, session_service=sessions)
    await sessions.create_session(app_name="warm_up", user_id="u", session_id="s")
    message = types.Content(role="user", parts=[types.Part(text="hello")])
    async for _ in runner.run_async(user_id="u", session_id="s", new_message=message):
        pass


def _tool() -> str:
    """Do nothing."""
    return "done"


class _Model(BaseLlm):
    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        said = llm_request.contents[-1].parts or []
        if any(part.function_response for part in said):
            part = types.Part(text="done")
        else:
            part = types.Part(function_call=types.FunctionCall(name="_tool", args={}))
        yield LlmResponse(
            content=types.Content(role="model", parts=[part]),
            usage_metadata=types.GenerateContentResponseUsageMetadata(
                prompt_token_count=1, candidates_token_count=1, total_token_count=2
            ),
        )
