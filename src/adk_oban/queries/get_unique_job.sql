-- The job that was enqueued last under a key, if it stands for others that come now.
SELECT
  job.id, job.state, job.queue, job.worker, job.attempt, job.max_attempts, job.priority,
  job.args, job.meta, job.errors, job.tags, job.attempted_by, job.inserted_at,
  job.attempted_at, job.cancelled_at, job.completed_at, job.discarded_at,
  job.scheduled_at
FROM {schema}.adk_oban_uniques AS held
JOIN {schema}.oban_jobs AS job ON job.id = held.job_id
WHERE held.key = %(key)s
  AND (held.expires_at IS NULL OR held.expires_at > clock_timestamp())
  AND job.state::text NOT IN ('cancelled', 'discarded')
  -- Oban's ids start again after a reset of its tables.
  AND job.inserted_at <= timezone('UTC', held.given_at)
