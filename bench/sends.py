"""Counts what a process sends to PostgreSQL, below all who send through psycopg."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from psycopg import _cursor_base, _pipeline_base, _server_cursor_base, generators
from psycopg.pq import TransactionStatus

type _Generator = Callable[..., Generator[Any, Any, Any]]

_IDLE = TransactionStatus.IDLE


@dataclass(slots=True)
class Sends:
    """Counts of a process.

    Attributes:
        trips: Round trips: sends that were waited for, BEGIN and COMMIT included.
        transactions: How many transactions ended.
    """

    trips: int = 0
    transactions: int = 0

    def install(self) -> None:
        """Count from now on, for as long as the process lives."""
        # psycopg has no hook for this; each module has its own name for the function.
        counted = self._statements(generators.execute)
        for module in (generators, _cursor_base, _server_cursor_base):
            module.execute = counted  # type: ignore[attr-defined]  # see above
        _pipeline_base.pipeline_communicate = self._batches(  # type: ignore[attr-defined]
            generators.pipeline_communicate
        )

    def _statements(self, execute: _Generator) -> _Generator:
        def counted(pgconn: Any) -> Generator[Any, Any, Any]:
            self.trips += 1
            results = yield from execute(pgconn)
            self.transactions += pgconn.transaction_status == _IDLE
            return results

        return counted

    def _batches(self, communicate: _Generator) -> _Generator:
        def counted(pgconn: Any, commands: Any) -> Generator[Any, Any, Any]:
            self.trips += bool(commands)
            was = pgconn.transaction_status
            results = yield from communicate(pgconn, commands)
            self.transactions += was != _IDLE == pgconn.transaction_status
            return results

        return counted
