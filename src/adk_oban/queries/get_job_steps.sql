-- What a job's agents have done, in order, without what it returned; one empty row where
-- that is nothing. A step is live if the last attempt recorded it, or if a pause has ended
-- its part of the invocation since; the rest the last attempt had from the journal.
WITH job AS MATERIALIZED (
  SELECT
    job.id,
    job.attempted_at,
    coalesce(job.attempt, result.attempt) AS attempt,
    coalesce(job.inserted_at AT TIME ZONE 'UTC', '-infinity') AS inserted_at
  FROM (SELECT %(job_id)s::bigint AS id) AS asked
  LEFT JOIN {schema}.oban_jobs AS job ON job.id = asked.id
  LEFT JOIN {schema}.adk_oban_results AS result ON result.job_id = asked.id
  WHERE job.id IS NOT NULL
    OR result.job_id IS NOT NULL
    OR EXISTS (SELECT FROM {schema}.adk_oban_steps AS step WHERE step.job_id = asked.id)
), part AS MATERIALIZED (
  -- The part that the last attempt belongs to: while a question is open, that asks it.
  SELECT coalesce(
    max(approval.segment) + CASE WHEN bool_or(approval.state = 'open') THEN 0 ELSE 1 END,
    0
  ) AS segment
  FROM job
  JOIN {schema}.adk_oban_approvals AS approval
    ON approval.job_id = %(job_id)s
    AND NOT approval.replayed
    AND approval.state <> 'withdrawn'
    AND approval.asked_at >= job.inserted_at
)
SELECT
  -- First what is done, as a fork counts it.
  row_number() OVER (ORDER BY step.state <> 'done', step.id) AS position,
  step.kind, step.name, step.agent, step.branch, step.segment, step.state, step.attempt,
  step.duration, step.usage AS tokens, step.recorded_at,
  CASE
    WHEN step.segment < part.segment THEN 'live'
    WHEN coalesce(
      step.attempted_at = job.attempted_at, step.attempt = job.attempt
    ) THEN 'live'
    ELSE 'replayed'
  END AS source
FROM job
CROSS JOIN part
LEFT JOIN {schema}.adk_oban_steps AS step
  ON step.job_id = %(job_id)s
  -- Oban's ids start again after a reset of its tables; a worker's clock may be behind.
  AND step.recorded_at >= job.inserted_at - interval '1 hour'
ORDER BY position
