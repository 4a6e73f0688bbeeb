"""The demo's agents: real ADK agents with real tools."""

from __future__ import annotations

import os

from google.adk.agents import LlmAgent

from demo import offline  # noqa: F401  (makes ADK know the offline model)
from demo.tools import TOOLS

HAS_KEY = bool(os.environ.get("GOOGLE_API_KEY"))
MODEL = "gemini-flash-latest" if HAS_KEY else "offline"

INSTRUCTION = (
    "You report on a text file whose path stands in <angle brackets>. Use each of your "
    "tools once, and answer in two sentences: what the file is called and how long it "
    "is, and what it says that matters most."
)

reader = LlmAgent(
    name="reader",
    model=MODEL,
    instruction=INSTRUCTION,
    tools=list(TOOLS),
)

# Its model fails at the first two attempts, whichever model stands behind it else.
unlucky = LlmAgent(
    name="unlucky",
    model="offline-unreliable",
    instruction=INSTRUCTION,
    tools=list(TOOLS),
)

AGENTS = {"reader": reader, "unlucky": unlucky}

INLINE = {
    "name": "counter",
    "model": MODEL,
    "instruction": "Count what is in the file whose path stands in <angle brackets>.",
    "tools": ["read_file", "count"],
}
