"""The FastAPI example, driven over HTTP."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import closing

import httpx
import psycopg
import pytest

from processes import Process, eventually, python


@pytest.fixture
def port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def app(database: str, port: int) -> Iterator[Process]:
    """The app in a process of its own, on a database of its own."""
    arguments = ["--app-dir=examples/fastapi", "app:app", f"--port={port}"]
    env = {"ADK_OBAN_DSN": database}
    with python("-m", "uvicorn", *arguments, env=env) as process:
        yield process


@pytest.fixture
def http(app: Process, port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

        def up() -> bool:
            assert app.popen.poll() is None, "it did not start"
            try:
                return client.get("/openapi.json").is_success
            except httpx.ConnectError:
                return False

        eventually(up, seconds=30)
        yield client


def count(dsn: str, table: str) -> int:
    with psycopg.connect(dsn) as conn:
        return conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_a_ticket_is_answered_by_its_job_or_leaves_nothing(app, http, database):
    asked = http.post("/tickets", json={"user": "ada", "text": "My invoice?"})
    assert asked.status_code == 202
    number = asked.json()["id"]

    told = http.get(f"/tickets/{number}", params={"wait": 20}).json()
    assert told["state"] == "completed"
    assert told["answer"].startswith("Invoices are under Settings")

    refused = http.post("/tickets", json={"user": "", "text": "My password?"})
    assert refused.status_code == 422
    assert "user_id must not be missing or empty" in refused.text
    assert (count(database, "tickets"), count(database, "oban_jobs")) == (1, 1)

    assert http.get(f"/tickets/{number + 1}").status_code == 404
    assert app.kill(signal.SIGTERM) in (0, -signal.SIGTERM)  # uvicorn's ways to end
