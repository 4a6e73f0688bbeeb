"""A BaseAgent of the user's own, which decides what runs and yields its own events."""

from collections.abc import AsyncGenerator

from google.adk.agents import BaseAgent, LlmAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import Event, EventActions
from google.genai import types

from durability.crash.script import Script, call

from .kind import Kind
from .tools import look, note


class Boss(BaseAgent):
    """Runs the first sub-agent, and then what the state says."""

    async def _run_async_impl(
        self, ctx: InvocationContext
    ) -> AsyncGenerator[Event, None]:
        first, second, never = self.sub_agents
        yield self._event(ctx, "begins", stage=1)
        async for event in first.run_async(ctx):
            yield event
        found = ctx.session.state.get("found")
        yield self._event(ctx, f"found {found}", stage=2, seen=[found])
        async for event in (second if found == "gold" else never).run_async(ctx):
            yield event
        if ctx.session.state.get("stage") == 2:
            yield self._event(ctx, "ends", stage=3)

    def _event(self, ctx: InvocationContext, text: str, **state: object) -> Event:
        return Event(
            invocation_id=ctx.invocation_id,
            author=self.name,
            branch=ctx.branch,
            content=types.Content(role="model", parts=[types.Part(text=text)]),
            actions=EventActions(state_delta=state),
        )


def make() -> Boss:
    """Make it."""
    digger = LlmAgent(
        name="digger",
        model=Script(
            model="digger", plan=[call("note", key="found", value="gold"), "Dug"]
        ),
        tools=[note],
    )
    seller = LlmAgent(
        name="seller",
        model=Script(
            model="seller", plan=[call("look", place="market"), "Sold {told}"]
        ),
        tools=[look],
    )
    idler = LlmAgent(name="idler", model=Script(model="idler", plan=["Nothing"]))
    return Boss(name="boss", sub_agents=[digger, seller, idler])


KIND = Kind("custom", make)
