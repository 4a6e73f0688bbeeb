"""Every error of adk-oban.

```
AdkObanError
├── AlreadyAnsweredError       somebody else has answered, or the deadline has passed
├── DatabaseUnavailableError   no connection: wrong DSN, or the server is down
├── EmbeddedPostgresError      the embedded server cannot be found or started
├── JobFailedError             the job ended without an answer
├── JobNotFoundError           no such job
├── NotMigratedError           our tables are missing or older than this version
├── ResultTimeoutError         the job has not ended yet (also a TimeoutError)
├── SchemaVersionError         tables of another version or of somebody else
├── SessionBusyError           the session has a job that has not ended
└── UnknownAgentError          the agent is not registered (also a ValueError)
```

An argument that can be seen to be wrong is a plain `TypeError` or `ValueError`,
raised by the call that it was given to.
"""

from __future__ import annotations


class AdkObanError(Exception):
    """Root of all errors that adk-oban raises on its own."""


class AlreadyAnsweredError(AdkObanError):
    """A question of an agent's is not open any more.

    Attributes:
        approval_id: Its number in the inbox.
        state: What became of it; `"open"` when its deadline has just passed.
        answered_by: Who was faster, where it is known.
    """

    def __init__(self, approval_id: int, state: str, answered_by: str | None) -> None:
        self.approval_id = approval_id
        self.state = state
        self.answered_by = answered_by
        how = "its deadline has passed" if state == "open" else f"it was {state}"
        by = "" if answered_by is None else f" by {answered_by!r}"
        super().__init__(
            f"approval {approval_id} cannot be answered any more: {how}{by}"
        )


class DatabaseUnavailableError(AdkObanError):
    """No connection to PostgreSQL: a wrong DSN, or a server that is down."""


class EmbeddedPostgresError(AdkObanError):
    """The embedded PostgreSQL cannot be found, started or reached."""


class JobFailedError(AdkObanError):
    """A job ended without an answer: it was discarded or cancelled.

    Attributes:
        job_id: The job's id.
        state: `"discarded"` or `"cancelled"`.
        reason: The last recorded error, or what cancelled it.
    """

    def __init__(self, job_id: int, state: str, reason: str) -> None:
        self.job_id = job_id
        self.state = state
        self.reason = reason
        super().__init__(f"job {job_id} was {state}: {reason}")


class JobNotFoundError(AdkObanError):
    """There is neither a job nor a kept result with this id.

    Attributes:
        job_id: The id that was looked for.
    """

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        super().__init__(
            f"no job {job_id}: it never existed in this database and schema, or both "
            "the job and its result have been pruned"
        )


class NotMigratedError(AdkObanError):
    """The database lacks our tables, or holds those of an older version."""


class ResultTimeoutError(AdkObanError, TimeoutError):
    """A job has not ended within the time that the caller gave it; it runs on.

    Attributes:
        job_id: The job's id.
        state: The job's state when the time was up.
    """

    def __init__(self, job_id: int, state: str, timeout: float) -> None:
        self.job_id = job_id
        self.state = state
        super().__init__(
            f"job {job_id} is still {state!r} after {timeout:g} s; it goes on, and "
            "result() can be awaited again"
        )


class SchemaVersionError(AdkObanError):
    """The database holds tables of another version, or of another program."""


class SessionBusyError(AdkObanError):
    """A message was not enqueued: its session has a job that has not ended.

    Attributes:
        session_id: ADK's session id.
        job_ids: The session's jobs that have not ended, in their order.
    """

    def __init__(self, session_id: str, job_ids: tuple[int, ...]) -> None:
        self.session_id = session_id
        self.job_ids = job_ids
        first, more = job_ids[0], len(job_ids) - 1
        others = f" and {more} more" if more else ""
        super().__init__(
            f"session {session_id!r} is busy with job {first}{others}, and "
            "when_busy='reject' does not wait: try again later, or let it wait"
        )


class UnknownAgentError(AdkObanError, ValueError):
    """An agent is not registered, not allowed, or not there.

    Attributes:
        agent: The name as it was given.
    """

    def __init__(self, agent: str, reason: str) -> None:
        self.agent = agent
        super().__init__(f"agent {agent!r} {reason}")
