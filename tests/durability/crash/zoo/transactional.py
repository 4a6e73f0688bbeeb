"""An agent with a tool whose writes commit with its step."""

from google.adk.agents import LlmAgent
from psycopg import AsyncConnection

from adk_oban import transactional
from durability.crash.effects import effects
from durability.crash.script import Script, call

from .kind import Kind
from .tools import look


@transactional
async def book(what: str, *, conn: AsyncConnection) -> str:
    """Book something."""
    with effects.body("tool", "book", what):
        await conn.execute("INSERT INTO ledger (entry) VALUES (%s)", (what,))
        return f"{what} is booked"


def make() -> LlmAgent:
    """Make it."""
    plan = [
        call("look", place="north"),
        call("book", what="room"),
        [call("book", what="car"), call("book", what="boat")],
        "Done {told}",
    ]
    return LlmAgent(name="booker", model=Script(plan=plan), tools=[look, book])


KIND = Kind("transactional", make, width=2)
