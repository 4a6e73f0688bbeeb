"""What an attempt costs: its model calls and their tokens."""

from __future__ import annotations

from collections import Counter

from google.adk.agents.callback_context import CallbackContext
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin


class Meter(BasePlugin):
    """Counts model calls and tokens of one attempt, inside AgentTools too.

    Attributes:
        model_calls: How many times a model was asked.
        usage: Sums of the token counts, under genai's names.
    """

    def __init__(self) -> None:
        super().__init__(name="adk_oban_meter")
        self.model_calls = 0
        self.usage: Counter[str] = Counter()

    async def before_model_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest
    ) -> LlmResponse | None:
        """Count a call."""
        self.model_calls += 1
        return None

    async def after_model_callback(
        self, *, callback_context: CallbackContext, llm_response: LlmResponse
    ) -> LlmResponse | None:
        """Add up the tokens of a complete response."""
        if llm_response.usage_metadata is not None and not llm_response.partial:
            counts = llm_response.usage_metadata.model_dump(exclude_none=True)
            self.usage.update({k: v for k, v in counts.items() if isinstance(v, int)})
        return None
