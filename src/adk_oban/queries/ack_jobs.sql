-- Writes down how attempts ended, of those only that still are the job's own attempt.
WITH ack AS MATERIALIZED (
  SELECT *
  FROM jsonb_to_recordset(%(acks)s::jsonb) AS ack (
    id bigint, attempted_at timestamp, state text, attempt_change int,
    schedule_in double precision, error jsonb, meta jsonb
  )
)
UPDATE {schema}.oban_jobs AS job
SET
  state = ack.state::{schema}.oban_job_state,
  cancelled_at = CASE ack.state WHEN 'cancelled' THEN timezone('UTC', now()) ELSE job.cancelled_at END,
  completed_at = CASE ack.state WHEN 'completed' THEN timezone('UTC', now()) ELSE job.completed_at END,
  discarded_at = CASE ack.state WHEN 'discarded' THEN timezone('UTC', now()) ELSE job.discarded_at END,
  scheduled_at = coalesce(timezone('UTC', now()) + make_interval(secs => ack.schedule_in::int), job.scheduled_at),
  attempt = coalesce(ack.attempt_change + job.attempt, job.attempt),
  errors = coalesce(job.errors || ack.error, job.errors),
  meta = coalesce(job.meta || ack.meta, job.meta)
FROM ack
WHERE job.id = ANY (%(ids)s)
  AND job.id = ack.id
  -- As text, which no index has: by their state, one would find many dead entries.
  AND job.state::text = 'executing'
  AND job.attempted_at = ack.attempted_at
-- One that was cancelled meanwhile has ended, whatever was to become of it.
RETURNING job.id, job.state IN ('cancelled', 'discarded')
