"""An agent that is described in a job's args instead of in code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self

from google.adk.agents import LlmAgent
from google.adk.models import LLMRegistry
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.base_toolset import BaseToolset
from google.genai import types
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ._args import first_error

type Tool = Callable[..., Any] | BaseTool | BaseToolset
"""What an `LlmAgent` takes as a tool."""


class InlineAgent(BaseModel):
    """An `LlmAgent` as JSON; its keys and defaults are the origin's, and a few more.

    Attributes:
        type: Always `"llm"`.
        name: The agent's name (default `"oban_agent"`).
        model: The model's name (required).
        instruction: The system instruction.
        description: What the agent is for, which a parent agent reads.
        tools: Names of tools that the operator registered.
        output_schema: A JSON schema that the answer follows.
        generate_content_config: Fields of genai's `GenerateContentConfig`.
        sub_agents: Agents that this one may transfer to.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Literal["llm"] = "llm"
    name: str = Field(default="oban_agent", min_length=1)
    model: str = Field(min_length=1)
    instruction: str = "You are a helpful assistant."
    description: str = ""
    tools: list[str] = []
    output_schema: dict[str, Any] | None = None
    generate_content_config: dict[str, Any] | None = None
    sub_agents: list[InlineAgent] = []

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> Self:
        """Check a config, with everything in it that ADK itself would refuse.

        Raises:
            ValueError: A field is missing, unknown or wrong; the message names it.
        """
        try:
            inline = cls.model_validate(dict(config))
            inline.build(None)
        except ValidationError as error:
            raise ValueError(first_error("agent_config", error)) from None
        return inline

    def check(self, tools: Mapping[str, Tool]) -> None:
        """Refuse models that ADK does not know here, and tools not in `tools`.

        Raises:
            ValueError: One is not; the message names it and those there are.
        """
        try:
            LLMRegistry.resolve(self.model)
        except ValueError as error:
            raise ValueError(f"agent_config.model: {error}") from None
        if unknown := [name for name in self.tools if name not in tools]:
            raise ValueError(
                f"agent_config.tools names {unknown!r}, and the tools registered here "
                f"are {sorted(tools)!r}; register them with AdkOban(tools=...)"
            )
        for agent in self.sub_agents:
            agent.check(tools)

    def build(self, tools: Mapping[str, Tool] | None) -> LlmAgent:
        """Return the agent, with tools taken from `tools` (None: without any).

        Raises:
            ValueError: A field is wrong, or a tool is not registered.
        """
        if tools is not None:
            self.check(tools)
        config = self.generate_content_config
        return LlmAgent(
            name=self.name,
            model=self.model,
            instruction=self.instruction,
            description=self.description,
            tools=[tools[name] for name in self.tools] if tools is not None else [],
            output_schema=self.output_schema,
            generate_content_config=(
                types.GenerateContentConfig.model_validate(config) if config else None
            ),
            sub_agents=[agent.build(tools) for agent in self.sub_agents],
        )


def named_tools(tools: Mapping[str, Tool] | Iterable[Tool]) -> dict[str, Tool]:
    """Return tools by name: the mapping's, or each tool's own.

    Raises:
        TypeError: A tool has no name of its own.
        ValueError: Two have the same.
    """
    if isinstance(tools, Mapping):
        return dict(tools)
    named: dict[str, Tool] = {}
    for tool in tools:
        name = getattr(tool, "name", None) or getattr(tool, "__name__", None)
        if not isinstance(name, str):
            raise TypeError(
                f"tool {tool!r} has no name of its own; give it one in a mapping: "
                "tools={'name': tool}"
            )
        if name in named:
            raise ValueError(f"two tools are named {name!r}; name them in a mapping")
        named[name] = tool
    return named
