"""A receiver of webhooks on loopback, which answers as a test says."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from adk_oban import AdkOban, AgentJob
from adk_oban.webhooks import verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class Answer:
    """An answer other than 204."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True)
class Hook:
    """A webhook as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def told(self, secret: str = SECRET) -> dict[str, Any]:
        return verify(self.body, self.headers, secret)


class Receiver:
    """The server; it runs inside `with`.

    Args:
        answers: The first answers, as statuses or `Answer`s; then it takes all.
        port: Its port (default: a free one).
    """

    def __init__(self, answers: Iterable[int | Answer] = (), *, port: int = 0) -> None:
        self._answers = iter(answers)
        self.hooks: list[Hook] = []
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        self._server.receiver = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, hook: Hook) -> Answer:
        self.hooks.append(hook)
        answer = next(self._answers, 204)
        return Answer(answer) if isinstance(answer, int) else answer


HANG = Answer(0)
"""No answer, as long as the server runs."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver: Receiver = self.server.receiver  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): text for name, text in self.headers.items()}
        answer = receiver.answer(Hook(headers, body))
        if answer is HANG:
            receiver.closing.wait()
            return
        self.send_response(answer.status)
        for name, text in answer.headers:
            self.send_header(name, text)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


async def follow_ups(conn: AsyncConnection, prefix: str) -> list[dict[str, Any]]:
    """Return the rows of the jobs that see to what follows."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            f"SELECT * FROM {prefix}.oban_jobs "
            "WHERE worker = 'adk_oban.on_complete.FollowUp' ORDER BY id"
        )
        return await cursor.fetchall()


async def agents_jobs(
    jobs: AdkOban, conn: AsyncConnection, prefix: str
) -> list[AgentJob]:
    """Return the jobs of agents, newest first."""
    rows = await conn.execute(
        f"SELECT id FROM {prefix}.oban_jobs "
        "WHERE worker <> 'adk_oban.on_complete.FollowUp' ORDER BY id DESC"
    )
    return [await jobs.get_job(job_id) for (job_id,) in await rows.fetchall()]
