"""Which answer fits which question, and what ADK is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.adk.tools.tool_confirmation import ToolConfirmation
from pydantic import ValidationError

from ._args import MAX_ID_LENGTH, check_json, first_error, show
from .approvals import Approval


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a question.

    Attributes:
        state: `"approved"`, `"rejected"` or `"responded"`.
        by: Who answers.
        response: What ADK is told; of a decision, what the tool returned.
        edited_args: What the tool runs with instead.
        reason: Why it is rejected.
    """

    state: str
    by: str | None = None
    response: Any = None
    edited_args: dict[str, Any] | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        for name in ("by", "reason"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} must be a string, got {show(value)}")
            check_json(name, value)
        if self.by is not None and len(self.by) > MAX_ID_LENGTH:
            raise ValueError(
                f"by must be at most {MAX_ID_LENGTH} characters, got {len(self.by)}"
            )


def approve(
    approval: Approval,
    *,
    payload: Any = None,
    edited_args: dict[str, Any] | None = None,
    by: str | None = None,
) -> Reply:
    """Return a yes.

    Raises:
        TypeError: `edited_args` is not a mapping.
        ValueError: The question takes no yes, no payload or no other args.
    """
    if approval.kind not in ("confirmation", "decision"):
        raise ValueError(
            f"approval {approval.id} is of kind {approval.kind!r}, which a yes does "
            "not answer; give it what it asks for with respond()"
        )
    if edited_args is not None:
        _check_edited(approval, edited_args)
    if approval.kind == "decision":
        if payload is not None:
            raise ValueError(
                f"approval {approval.id} asks whether tool {approval.tool!r} may run "
                "again, which takes no payload; respond() says what it returned"
            )
        return Reply("approved", by)
    response = {"confirmed": True}
    if payload is not None:
        response["payload"] = check_json("payload", payload)
    return Reply("approved", by, response, edited_args)


def reject(
    approval: Approval, *, reason: str | None = None, by: str | None = None
) -> Reply:
    """Return a no.

    Raises:
        TypeError: `reason` is not a string.
        ValueError: The question takes no no, or `reason` cannot be stored.
    """
    match approval.kind:
        case "confirmation":
            response: dict[str, Any] = {"confirmed": False}
            if reason:
                response["payload"] = {"reason": reason}
        case "credential":
            raise ValueError(
                f"approval {approval.id} asks for a credential, and ADK knows no way "
                "to refuse one; cancel the job instead"
            )
        case _:
            response = {"error": reason or "rejected"}
    return Reply("rejected", by, response, reason=reason)


def respond(approval: Approval, response: Any, *, by: str | None = None) -> Reply:
    """Return an answer that is more than yes or no.

    Raises:
        TypeError: It is not JSON of the right shape.
        ValueError: It does not fit the question.
    """
    check_json("response", response)
    match approval.kind:
        case "confirmation":
            if not isinstance(response, dict):
                raise TypeError(
                    "the response to a confirmation must be an object with "
                    f'"confirmed", got {show(response)}; approve() and reject() '
                    "make one"
                )
            try:
                confirmed = ToolConfirmation.model_validate(response).confirmed
            except ValidationError as error:
                raise ValueError(first_error("response", error)) from None
            return Reply("approved" if confirmed else "rejected", by, response)
        case "decision":
            return Reply("responded", by, response)
        case "credential" if not isinstance(response, dict):
            raise TypeError(
                "a credential must be an object, ADK's AuthConfig, got "
                f"{show(response)}"
            )
    told = response if isinstance(response, dict) else {"result": response}
    return Reply("responded", by, told)


def _check_edited(approval: Approval, edited_args: object) -> None:
    if not isinstance(edited_args, dict):
        raise TypeError(f"edited_args must be an object, got {show(edited_args)}")
    check_json("edited_args", edited_args)
    editable = ("adk_request_confirmation", approval.tool)
    if approval.kind != "confirmation" or approval.call_name not in editable:
        raise ValueError(
            f"approval {approval.id} is not about a tool that is yet to run, so that "
            "its args cannot be edited"
        )
