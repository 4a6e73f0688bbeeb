-- Where a job stands, all of it by keys; the job may be gone, and its result may not be.
SELECT
  coalesce(job.state::text, result.state) AS state,
  job.id IS NULL AS is_pruned,
  CASE WHEN job.state = 'scheduled' THEN job.meta ->> 'adk_oban_waits' END AS waits,
  coalesce(job.attempt, result.attempt) AS attempt,
  job.max_attempts,
  CASE WHEN job.state = 'executing' THEN job.attempted_by[1] END AS node,
  CASE WHEN job.state = 'executing' THEN job.attempted_at AT TIME ZONE 'UTC' END
    AS running_since,
  -- What waits for people is far ahead, unless they have a deadline.
  CASE
    WHEN job.state = 'scheduled'
      AND job.meta ->> 'adk_oban_waits' IN ('approval', 'decision') THEN open.deadline
    WHEN job.state IN ('scheduled', 'retryable') THEN job.scheduled_at AT TIME ZONE 'UTC'
  END AS next_run_at,
  CASE job.state
    WHEN 'completed' THEN job.completed_at AT TIME ZONE 'UTC'
    WHEN 'discarded' THEN job.discarded_at AT TIME ZONE 'UTC'
    WHEN 'cancelled' THEN job.cancelled_at AT TIME ZONE 'UTC'
    ELSE CASE WHEN job.id IS NULL THEN result.finished_at END
  END AS ended_at,
  coalesce(job.errors -> -1 ->> 'error', result.error) AS error,
  coalesce(job.state = 'executing' AND job.meta ? 'adk_oban_cancel', false)
    AS is_cancelling,
  open.ids AS approvals,
  done.steps AS steps_done,
  last.kind AS last_kind,
  last.name AS last_name,
  last.agent AS last_agent,
  event.id AS last_event
FROM (SELECT %(job_id)s::bigint AS id) AS asked
LEFT JOIN {schema}.oban_jobs AS job ON job.id = asked.id
-- Oban's ids start again after a reset of its tables: what is older is another job's.
CROSS JOIN LATERAL (
  SELECT coalesce(job.inserted_at AT TIME ZONE 'UTC', '-infinity') AS at
) AS inserted
LEFT JOIN {schema}.adk_oban_results AS result
  ON result.job_id = asked.id AND result.finished_at >= inserted.at
CROSS JOIN LATERAL (
  SELECT coalesce(array_agg(id ORDER BY id), '{}') AS ids, min(deadline) AS deadline
  FROM {schema}.adk_oban_approvals
  WHERE job_id = asked.id AND state = 'open' AND asked_at >= inserted.at
) AS open
CROSS JOIN LATERAL (
  SELECT count(*) AS steps
  FROM {schema}.adk_oban_steps
  -- A worker's clock may be behind.
  WHERE job_id = asked.id
    AND state = 'done'
    AND recorded_at >= inserted.at - interval '1 hour'
) AS done
LEFT JOIN LATERAL (
  SELECT kind, name, agent
  FROM {schema}.adk_oban_steps
  WHERE job_id = asked.id AND recorded_at >= inserted.at - interval '1 hour'
  ORDER BY id DESC
  LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
  SELECT id
  FROM {schema}.adk_oban_events
  WHERE job_id = asked.id AND at >= inserted.at
  ORDER BY id DESC
  LIMIT 1
) AS event ON true
WHERE job.id IS NOT NULL OR result.job_id IS NOT NULL
