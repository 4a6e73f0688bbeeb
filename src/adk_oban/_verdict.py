"""What ends an attempt, whatever the agent's own code makes of errors."""

from __future__ import annotations

from ._question import Question


class Interruption(BaseException):
    """The attempt ends here. No callback of the user's may make an answer of it."""


class NotOwner(Interruption):
    """The job is somebody else's by now: this attempt must leave no trace."""


class Stopped(Interruption):
    """A user has cancelled the job."""


class Asks(Interruption):
    """An agent inside a tool asks a person something, and must wait for the answer."""

    def __init__(self, question: Question) -> None:
        self.question = question
        super().__init__(f"{question.kind} of {question.tool!r}: {question.hint}")


class Undecided(Interruption):
    """Nobody knows whether a tool that runs once has run; a person must say."""


class RefusedError(Exception):
    """The job can never run as it is; another attempt would be in vain."""


class UnrecordableError(RefusedError, TypeError):
    """A step returned what cannot be recorded."""
