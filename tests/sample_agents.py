"""Agents that tests name by their module: `sample_agents` and what is in it."""

from __future__ import annotations

from google.adk.agents import LlmAgent

from adk_oban.testing import ScriptedModel

made = 0


def agent() -> LlmAgent:
    """The origin's convention; counts how often it was called."""
    global made
    made += 1
    return LlmAgent(name="made", model=ScriptedModel(replies=[f"made {made}"]))


def by_annotation() -> LlmAgent:
    return LlmAgent(name="annotated", model=ScriptedModel(replies=["annotated"]))


def dangerous():
    raise AssertionError("a job has called what is no agent")


named = LlmAgent(name="named", model=ScriptedModel(replies=lambda _: "named"))
not_an_agent = 42
