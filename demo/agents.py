"""The demo's agents: real ADK agents with real tools."""

from __future__ import annotations

import os

from google.adk.agents import LlmAgent
from google.adk.workflow import START, Workflow

from demo import offline  # noqa: F401  (makes ADK know the offline model)
from demo.tools import TOOLS, count, read_file, weigh_sentences

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

# Its model fails in the middle of the first two attempts.
unlucky = LlmAgent(
    name="unlucky",
    model="offline-unreliable",
    instruction=INSTRUCTION,
    tools=list(TOOLS),
)

# Four model calls and three tools, one after another, then a fifth call.
examiner = LlmAgent(
    name="examiner",
    model=MODEL,
    instruction=f"{INSTRUCTION} Use one tool at a time.",
    tools=[read_file, count, weigh_sentences],
    output_key="findings",
)
writer = LlmAgent(
    name="writer",
    model=MODEL,
    instruction="Say in one sentence what matters most of these findings: {findings}",
)
report = Workflow(name="report", edges=[(START, examiner, writer)])

AGENTS = {"reader": reader, "unlucky": unlucky, "report": report}

INLINE = {
    "name": "counter",
    "model": MODEL,
    "instruction": "Count what is in the file whose path stands in <angle brackets>.",
    "tools": ["read_file", "count"],
}
