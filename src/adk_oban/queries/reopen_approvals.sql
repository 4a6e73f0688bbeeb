-- Asks again what was withdrawn when a job ended that somebody has retried since. What an
-- agent asks from the middle of its run, it asks again itself.
UPDATE {schema}.adk_oban_approvals AS approval
SET
  state = 'open',
  answered_at = NULL,
  asked_at = clock_timestamp(),
  -- They have as long as they had.
  deadline = clock_timestamp() + (approval.deadline - approval.asked_at)
FROM {schema}.oban_jobs AS job
WHERE job.id = %(job_id)s
  AND approval.job_id = job.id
  AND approval.state = 'withdrawn'
  AND NOT approval.replayed
  AND approval.segment >= 0
  -- Oban's ids start again after a reset of its tables.
  AND approval.asked_at >= job.inserted_at AT TIME ZONE 'UTC'
