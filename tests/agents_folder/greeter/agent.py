from google.adk.agents import LlmAgent

from adk_oban.testing import ScriptedModel

root_agent = LlmAgent(name="greeter", model=ScriptedModel(replies=lambda _: "Good day"))
