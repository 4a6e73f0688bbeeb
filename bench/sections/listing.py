"""A page of jobs among a million, for each filter.

Of each filter the slowest of several values counts: a common one, a rare one, and one
that no job has.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from adk_oban import AdkOban
from bench.database import Database
from bench.measure import Bench
from bench.table import Row

_ROUNDS = 9

# One app, 20 agents, 50,000 users, 200,000 sessions, over a day; 99 % have completed,
# and 1 % have a tag.
_FILL = """
INSERT INTO oban_jobs (worker, queue, state, args, tags, inserted_at)
SELECT
  'adk_oban.worker.AgentWorker',
  CASE WHEN n %% 1000 = 0 THEN 'rare' ELSE 'agents' END,
  CASE WHEN n %% 100 < 99 THEN 'completed' ELSE (
    ARRAY['discarded', 'cancelled', 'available', 'scheduled', 'executing', 'retryable']
  )[1 + n / 100 %% 6] END::oban_job_state,
  jsonb_build_object(
    'agent_module', 'agent-' || n %% 20, 'app_name', 'shop', 'message', 'Hello',
    'user_id', 'user-' || n::bigint * 7919 %% 50000,
    'session_id', 'session-' || n::bigint * 7919 %% 200000
  ),
  CASE WHEN n %% 100 = 50 THEN ARRAY['tag-' || n / 100 %% 50] ELSE '{}' END,
  timezone('UTC', now()) - (%(count)s - n) * interval '1 day' / %(count)s
FROM generate_series(1, %(count)s) AS n
"""


async def run(bench: Bench) -> list[Row]:
    """Take the time of pages of 50 jobs."""
    count = 20_000 if bench.quick else 1_000_000
    async with bench.server.database() as database:
        await _fill(database, count)
        async with AdkOban(database.dsn) as jobs:
            took = {
                name: max([await _time(jobs, filters) for filters in values])
                for name, values in _filters().items()
            }
    bench.raw["listing"] = {"jobs": count, "page_ms": took}
    what = f"a page of 50 jobs among {count:,}"
    return [
        Row.alone(f"{what}, by {name}", "none", ms, "ms", most=50)
        for name, ms in took.items()
    ]


async def _fill(database: Database, count: int) -> None:
    await database.conn.execute(_FILL, {"count": count})
    await database.settle()


async def _time(jobs: AdkOban, filters: dict[str, Any]) -> float:
    took = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        await jobs.list_jobs(**filters)
        took.append((time.perf_counter() - began) * 1000)
    return median(took)


def _filters() -> dict[str, list[dict[str, Any]]]:
    """Return the values that each filter is tried with."""
    now = datetime.now(UTC)
    before = now - timedelta(hours=20)
    one = {
        "state": ("completed", "executing", "suspended", ["discarded", "cancelled"]),
        "queue": ("agents", "rare", "absent"),
        "agent": ("agent-3", "absent"),
        "app_name": ("shop", "absent"),
        "user_id": ("user-3", "absent"),
        "session_id": ("session-3", "absent"),
        "tag": ("tag-3", "absent"),
        "since": (now - timedelta(minutes=1), before, now + timedelta(days=1)),
        "until": (now, before, now - timedelta(days=2)),
    }
    pairs = {
        "user and state": [{"user_id": "user-3", "state": s} for s in one["state"]],
        "agent and state": [{"agent": "agent-3", "state": s} for s in one["state"]],
        "agent and time": [{"agent": "agent-3", "since": t} for t in one["since"]],
        "tag and time": [{"tag": "tag-3", "since": t} for t in one["since"]],
    }
    alone = {name: [{name: v} for v in values] for name, values in one.items()}
    return {"nothing": [{}], **alone, **pairs}
