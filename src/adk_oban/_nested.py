"""What a tool of an agent inside `AgentTool` asks people.

ADK drops such questions (google/adk-python#7245): the inner agent's session ends with
its run. Here the whole job waits, and the next attempt comes back to the same call from
the journal, with the answer.
"""

from __future__ import annotations

from typing import Any

from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext

from ._answers import confirmation
from ._frame import inside
from ._journal import Journal
from ._question import Question
from ._verdict import Asks, RefusedError
from .approvals import Approval

_INPUT = "adk_request_input"


class Nested:
    """The questions of one call of a tool; none unless an `AgentTool` is around it.

    Args:
        journal: The job's journal, which knows the answers.
        call_id: What names the call on all attempts.
        agent: The agent that makes it.
        tool: The tool.
        context: The tool's context.
        args: What it is called with.
    """

    def __init__(
        self,
        journal: Journal,
        call_id: str,
        agent: str,
        tool: BaseTool,
        context: ToolContext,
        args: dict[str, Any],
    ) -> None:
        self._args = args
        self._journal = journal
        self._tool = tool
        self._context = context
        self._agent = agent
        self._call_id = call_id
        self._around = inside.get()

    def confirmed(self) -> Approval | None:
        """Return what somebody said to the call, and let the tool know it."""
        if self._around is None:
            return None
        answer = self._journal.answers.for_step(f"{self._call_id}:confirmation")
        if answer is not None:
            self._context.tool_confirmation = confirmation(answer)
            self._journal.answers.confirm(self._context.function_call_id, answer)
        return answer

    async def check(self) -> None:
        """Look whether the tool's body has asked for something.

        Raises:
            Asks: A confirmation; ends the attempt.
            RefusedError: A credential; ends the job.
        """
        if self._around is None:
            return
        actions, call_id = self._context.actions, self._context.function_call_id or ""
        if call_id in actions.requested_auth_configs:
            refused = RefusedError(
                f"tool {self._tool.name!r} asked for a credential inside AgentTool "
                f"{self._around!r}, where nobody can give it one; make the agent a "
                "sub-agent, or have a credential service hold it"
            )
            raise self._journal.ended(refused)
        asked = actions.requested_tool_confirmations.get(call_id)
        if asked is not None:
            payload = asked.model_dump(mode="json", by_alias=True)
            await self._ask("confirmation", self._tool.name, asked.hint, payload)

    async def answered(self, result: Any) -> Any:
        """Return what somebody answered in the place of a tool that takes its time.

        Raises:
            Asks: Nobody has answered yet.
        """
        if self._around is None or result or not self._tool.is_long_running:
            return result
        answer = self._journal.answers.for_step(f"{self._call_id}:result")
        if answer is not None:
            return answer.response
        kind = "input" if self._tool.name == _INPUT else "long_running"
        await self._ask(kind, self._tool.name, "", None)

    async def _ask(self, kind: str, name: str, hint: str, payload: Any) -> None:
        suffix = "confirmation" if kind == "confirmation" else "result"
        question = Question(
            call_id=f"{self._call_id}:{suffix}",
            call_name=name,
            kind=kind,
            agent=self._agent,
            tool=self._tool.name,
            args=self._args,
            hint=hint,
            payload=payload,
        )
        await self._journal.in_flight.others()
        raise self._journal.ended(Asks(question))
