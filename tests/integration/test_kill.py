"""A worker is killed in the middle of a job, and another one completes it."""

from __future__ import annotations

import signal
from pathlib import Path

from adk_oban import AdkOban, AgentWorker
from processes import python

WORKER = str(Path(__file__).with_name("killed_worker.py"))


async def test_a_job_of_a_killed_worker_completes_on_another(dsn, migrated, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    arguments = (WORKER, dsn, migrated, str(gate))
    async with AdkOban(dsn, prefix=migrated) as client:
        with python(*arguments) as first, python(*arguments) as second:
            assert first.line() == second.line() == "ready"
            job = await AgentWorker.enqueue("slow", "u", "hi")
            killed, other = await _who_runs(client, job.id, first, second)
            assert killed.line() == "in the tool"
            killed.kill(signal.SIGKILL)
            gate.unlink()
            result = await job.result(timeout=50)

    assert result.text == f"done by {other.popen.pid}"
    assert result.attempts == 2


async def _who_runs(client, job_id, first, second):
    """Tell the worker that has the job from the one that has not, by Oban's row."""
    while not (row := await client.oban.get_job(job_id)).attempted_by:
        pass
    pid = int(row.attempted_by[0].rpartition(".")[2])
    return (first, second) if first.popen.pid == pid else (second, first)
