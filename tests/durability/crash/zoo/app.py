"""An App with plugins, whose agent has callbacks, that change all they can."""

from typing import Any

from google.adk.agents import LlmAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.apps import App
from google.adk.events import Event
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools import BaseTool, ToolContext
from google.genai import types

from durability.crash.effects import effects
from durability.crash.script import Script, call

from .kind import Kind
from .tools import look


async def fragile(place: str) -> str:
    """Fail for places that are not known."""
    with effects.body("tool", "fragile", place):
        pass
    if place == "nowhere":
        raise LookupError(place)
    return f"{place} found"


class Changer(BasePlugin):
    """Counts in the state, changes requests and results, and answers for errors."""

    def __init__(self) -> None:
        super().__init__("changer")

    async def on_user_message_callback(
        self, *, user_message: types.Content, **_: Any
    ) -> types.Content:
        return types.Content(
            role="user", parts=[*(user_message.parts or []), types.Part(text="Please")]
        )

    async def before_model_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest
    ) -> None:
        state = callback_context.state
        state["models"] = state.get("models", 0) + 1
        llm_request.append_instructions([f"call {state['models']}"])

    async def after_tool_callback(
        self,
        *,
        tool: BaseTool,
        tool_args: dict[str, Any],
        tool_context: ToolContext,
        result: Any,
    ) -> dict[str, Any]:
        state = tool_context.state
        state["tools"] = state.get("tools", 0) + 1
        return {"changed": result, "number": state["tools"]}

    async def on_tool_error_callback(
        self,
        *,
        tool: BaseTool,
        tool_args: dict[str, Any],
        tool_context: ToolContext,
        error: Exception,
    ) -> dict[str, Any] | None:
        if not isinstance(error, LookupError):
            return None
        state = tool_context.state
        state["failures"] = state.get("failures", 0) + 1
        return {"reflect": f"{tool.name} failed: try another place"}

    async def on_event_callback(self, *, event: Event, **_: Any) -> Event | None:
        if event.author == "mind" and event.is_final_response():
            return event.model_copy(update={"custom_metadata": {"seen": True}})
        return None


def before_agent(callback_context: CallbackContext) -> None:
    """Write state."""
    callback_context.state["began"] = callback_context.state.get("began", 0) + 1


def after_agent(callback_context: CallbackContext) -> types.Content:
    """Say something of its own."""
    callback_context.state["ended"] = True
    return types.Content(role="model", parts=[types.Part(text="After it all")])


async def before_model(
    callback_context: CallbackContext, llm_request: LlmRequest
) -> LlmResponse | None:
    """Answer the third call itself."""
    llm_request.append_instructions(["Be kind."])
    if callback_context.state["models"] != 3:
        return None
    return LlmResponse(
        content=types.Content(role="model", parts=[call("look", place="south")])
    )


async def after_model(
    callback_context: CallbackContext, llm_response: LlmResponse
) -> LlmResponse | None:
    """Change texts."""
    parts = llm_response.content.parts if llm_response.content else None
    callback_context.state["answered"] = callback_context.state.get("answered", 0) + 1
    if not parts or not parts[0].text:
        return None
    text = parts[0].text.upper()
    changed = types.Content(role="model", parts=[types.Part(text=text)])
    return llm_response.model_copy(update={"content": changed})


async def before_tool(
    tool: BaseTool, args: dict[str, Any], tool_context: ToolContext
) -> dict[str, Any] | None:
    """Change an argument, and answer for a place that is forbidden."""
    tool_context.state["last_tool"] = tool.name
    if args.get("place") == "forbidden":
        return {"error": "forbidden"}
    if args.get("place") == "south":
        args["place"] = "far south"
    return None


def make() -> App:
    """Make it."""
    plan = [
        [call("look", place="forbidden")],
        call("fragile", place="nowhere"),
        "Never said: the callback answers here",
        call("fragile", place="north"),
        "done {told}",
    ]
    mind = LlmAgent(
        name="mind",
        model=Script(plan=plan),
        tools=[look, fragile],
        before_agent_callback=before_agent,
        after_agent_callback=after_agent,
        before_model_callback=before_model,
        after_model_callback=after_model,
        before_tool_callback=before_tool,
    )
    return App(name="apps", root_agent=mind, plugins=[Changer()])


# An error that a plugin answered is recorded with the step that follows.
KIND = Kind("app", make, app_name="apps", width=2)
