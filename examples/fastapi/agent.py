"""The agent that answers tickets: Gemini with a key, and rules without one."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

ARTICLES = {
    "password": "Choose 'Forgot password?' on the login page, and follow the mail.",
    "invoice": "Invoices are under Settings, Billing, from the first of the month.",
    "delete": "Settings, Account, Delete. It is final after 14 days.",
}


def find_article(question: str) -> str:
    """Find the help article that answers a question.

    Args:
        question: The user's question.
    """
    words = question.lower()
    found = [text for topic, text in ARTICLES.items() if topic in words]
    return found[0] if found else "No article; a person will answer."


class Rules(BaseLlm):
    """A model without a network: it asks the tool, and repeats what that says."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Give the next step; ADK calls this."""
        last = (llm_request.contents[-1].parts or [types.Part()])[-1]
        if (said := last.function_response) and said.response:
            part = types.Part(text=str(said.response["result"]))
        else:
            args = {"question": last.text or ""}
            call = types.FunctionCall(name="find_article", args=args)
            part = types.Part(function_call=call)
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


HAS_KEY = bool(os.environ.get("GOOGLE_API_KEY"))

support = LlmAgent(
    name="support",
    model="gemini-flash-latest" if HAS_KEY else Rules(model="rules"),
    instruction="Answer the user's question from the help article that you find.",
    tools=[find_article],
)
