"""A Gemini API on loopback, whose replies a test writes down.

The real google-genai client is pointed at it by `FakeGemini.env`:

    with FakeGemini([Call("add", {"a": 1, "b": 2}), "It is 3."]) as gemini:
        ...
        gemini.requests[0].body["contents"]
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Call:
    """A function call; a list of them is parallel."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ends:
    """An answer that ends for another reason than being finished."""

    reason: str
    text: str = ""


@dataclass(frozen=True)
class Blocked:
    """No answer, since the prompt was blocked."""

    reason: str = "PROHIBITED_CONTENT"


@dataclass(frozen=True)
class Fault:
    """An HTTP error in Google's form."""

    code: int
    retry_after: int | None = None
    retry_info: str | None = None


@dataclass(frozen=True)
class Cut:
    """The connection ends in the middle of the answer."""


@dataclass(frozen=True)
class Hang:
    """No answer, or only its first word, until the client goes or the server stops."""

    first: str = ""


type Reply = str | Call | list[Call] | Ends | Blocked | Fault | Cut | Hang


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    model: str
    stream: bool
    body: dict[str, Any]


STATUS = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class FakeGemini:
    """The server; it runs inside `with`.

    Args:
        replies: Replies in order, or a function of the request's body.
    """

    def __init__(
        self, replies: Sequence[Reply] | Callable[[dict[str, Any]], Reply]
    ) -> None:
        self._replies = replies if callable(replies) else iter(replies)
        self.requests: list[Request] = []
        self.left: list[float] = []  # when clients went that it let hang
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = False  # closing waits for them
        self._server.fake = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def env(self) -> dict[str, str]:
        """What points google-genai here."""
        return {
            "GOOGLE_API_KEY": "fake",
            "GOOGLE_GEMINI_BASE_URL": f"http://127.0.0.1:{self._server.server_port}",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, request: Request) -> Reply:
        """Return the next reply; a 500 that says so when there is none left."""
        self.requests.append(request)
        if callable(self._replies):
            return self._replies(request.body)
        return next(self._replies, Fault(500))


class _Handler(BaseHTTPRequestHandler):
    """Speaks generateContent, and streamGenerateContent?alt=sse."""

    def do_POST(self) -> None:
        fake: FakeGemini = self.server.fake  # type: ignore[attr-defined]
        model, _, method = self.path.partition("/models/")[2].partition(":")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stream = method.startswith("streamGenerateContent")
        match fake.reply(Request(model, stream, body)):
            case Fault() as fault:
                self._fault(fault)
            case Hang(first):
                if first:
                    self._start(200, kind="text/event-stream")
                    self._chunk(next(answers(f"{first} ", split=True)))
                self._hang(fake)
            case Cut():
                self._start(200, length=1000)
                self.wfile.write(b'data: {"candid')
            case reply if stream:
                self._stream(answers(reply, split=True))
            case reply:
                self._json(200, next(answers(reply, split=False)))

    def _fault(self, fault: Fault) -> None:
        status = STATUS[fault.code]
        error = {"code": fault.code, "status": status, "message": f"{status} (fake)"}
        if fault.retry_info is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            error["details"] = [{"@type": kind, "retryDelay": fault.retry_info}]
        self._json(fault.code, {"error": error}, retry_after=fault.retry_after)

    def _json(self, code: int, value: object, retry_after: int | None = None) -> None:
        data = json.dumps(value).encode()
        self._start(code, length=len(data), retry_after=retry_after)
        self.wfile.write(data)

    def _stream(self, chunks: Iterator[dict[str, Any]]) -> None:
        self._start(200, kind="text/event-stream")
        for chunk in chunks:
            self._chunk(chunk)

    def _chunk(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\r\n\r\n".encode())

    def _hang(self, fake: FakeGemini) -> None:
        while not fake.closing.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.005)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                fake.left.append(time.monotonic())
                return

    def _start(
        self,
        code: int,
        *,
        kind: str = "application/json",
        length: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def answers(reply: Reply, *, split: bool) -> Iterator[dict[str, Any]]:
    """Yield an answer in Google's form, text word by word where it is split."""
    match reply:
        case Blocked(reason):
            yield {"promptFeedback": {"blockReason": reason}, **_usage(0)}
            return
        case Ends(finish, text):
            parts = [{"text": text}] if text else []
        case str():
            finish = "STOP"
            words = reply.split(" ") if split else [reply]
            parts = [
                {"text": f" {word}" if n else word} for n, word in enumerate(words)
            ]
        case _:
            finish = "STOP"
            calls = reply if isinstance(reply, list) else [reply]
            parts = [{"functionCall": {"name": c.name, "args": c.args}} for c in calls]
    whole = [parts] if not split or not isinstance(reply, str) else [[p] for p in parts]
    for number, some in enumerate(whole, start=1):
        candidate: dict[str, Any] = {"index": 0}
        if some:
            candidate["content"] = {"role": "model", "parts": some}
        if number == len(whole):
            candidate["finishReason"] = finish
        yield {"candidates": [candidate], **_usage(number)}


def _usage(tokens: int) -> dict[str, Any]:
    return {
        "usageMetadata": {
            "promptTokenCount": 7,
            "candidatesTokenCount": tokens,
            "totalTokenCount": 7 + tokens,
        }
    }
