"""What a listing returns: a page, and where the next one begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .jobs import AgentJob


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs, newest first; to iterate over it is to iterate over `jobs`.

    Attributes:
        jobs: The jobs.
        next: The cursor of the page that follows, `list_jobs(after=page.next)`; None:
            there is none.

    Example:
        >>> page = await jobs.list_jobs(user_id="user-1")
        >>> print([job.id for job in page])
        >>> if page.next:
        ...     page = await jobs.list_jobs(user_id="user-1", after=page.next)
    """

    jobs: tuple[AgentJob, ...]
    next: str | None

    def __iter__(self) -> Iterator[AgentJob]:
        """Iterate over the jobs."""
        return iter(self.jobs)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.jobs)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data that JSON can hold."""
        return {"jobs": [job.to_json() for job in self.jobs], "next": self.next}
