-- The args of a job that waits to be started and takes more messages, which nobody starts
-- until the transaction ends.
SELECT args
FROM {schema}.oban_jobs AS job
WHERE id = %(id)s
  AND state::text IN ('available', 'scheduled')
  AND attempt = 0
  AND args ->> 'when_busy' = 'merge'
  -- One that has asked somebody something has begun with its message.
  AND NOT EXISTS (
    SELECT FROM {schema}.adk_oban_approvals AS asked
    WHERE asked.job_id = job.id AND asked.asked_at >= job.inserted_at AT TIME ZONE 'UTC'
  )
  -- Nor has one that was given back by a node that stopped.
  AND NOT EXISTS (
    SELECT FROM {schema}.adk_oban_steps AS step
    WHERE step.job_id = job.id
      AND step.recorded_at >= job.inserted_at AT TIME ZONE 'UTC' - interval '1 hour'
  )
FOR UPDATE
