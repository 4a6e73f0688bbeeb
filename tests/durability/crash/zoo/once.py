"""An agent with a tool that must not run twice."""

from google.adk.agents import LlmAgent

from adk_oban import once
from durability.crash.effects import effects
from durability.crash.script import Script, call

from .kind import Kind
from .tools import look


@once
async def pay(amount: int) -> str:
    """Pay."""
    with effects.body("tool", "pay", amount):
        return f"paid {amount}"


@once
def mail(amount: int) -> dict[str, str]:
    """Send a receipt, blocking."""
    with effects.body("tool", "mail", amount):
        return {"mailed": f"receipt of {amount}"}


RESULTS = {"pay": "paid 5", "mail": {"mailed": "receipt of 5"}}
"""What a person finds out, when one of them has run."""


def make() -> LlmAgent:
    """Make it."""
    plan = [
        call("look", place="north"),
        call("pay", amount=5),
        call("mail", amount=5),
        "Done {told}",
    ]
    return LlmAgent(name="payer", model=Script(plan=plan), tools=[look, pay, mail])


KIND = Kind("once", make, never_twice=RESULTS)
