-- Forgets batches: those that have started their job, and those that never will.
WITH forgotten AS (
  DELETE FROM {schema}.adk_oban_fan_ins
  WHERE key IN (
    SELECT key
    FROM {schema}.adk_oban_fan_ins
    WHERE updated_at < now() - %(max_age)s::interval
      -- Its other jobs may wait for people, for months.
      AND (then_job_id IS NOT NULL OR updated_at < now() - interval '1 year')
    ORDER BY updated_at
    LIMIT %(limit)s
  )
  RETURNING key
), jobs AS (
  DELETE FROM {schema}.adk_oban_fan_in_jobs
  WHERE key IN (SELECT key FROM forgotten)
)
SELECT key FROM forgotten
