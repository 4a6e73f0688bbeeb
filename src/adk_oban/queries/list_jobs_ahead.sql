-- The jobs of a session that a message which comes now would wait for, in the order in
-- which they run.
SELECT
  job.id,
  job.state::text = 'executing' AS runs,
  job.attempted_at,
  -- An attempt that runs may only be looking whether it must wait.
  job.attempt > (job.state::text = 'executing')::integer
    OR coalesce(job.meta ->> 'adk_oban_waits', '') IN ('approval', 'decision')
    OR CASE WHEN job.state::text = 'executing' OR job.id = min(job.id) OVER ()
      THEN EXISTS (
        SELECT FROM {schema}.adk_oban_steps AS step
        WHERE step.job_id = job.id
          -- Oban's ids start again after a reset of its tables; clocks differ a little.
          AND step.recorded_at >= job.inserted_at AT TIME ZONE 'UTC' - interval '1 hour'
      )
      ELSE false
    END AS has_begun
FROM {schema}.oban_jobs AS job
WHERE job.args ->> 'user_id' = %(user_id)s
  AND job.args ->> 'session_id' = %(session_id)s
  AND job.state NOT IN ('completed', 'discarded', 'cancelled')
  AND coalesce(job.args ->> 'app_name', %(app_name)s::text)
    IS NOT DISTINCT FROM coalesce(%(app_name)s::text, job.args ->> 'app_name')
  AND job.args ->> 'ordering' IS DISTINCT FROM 'none'
  -- One that is planned for later and has never run holds nobody up.
  AND NOT (
    job.state = 'scheduled' AND job.attempt = 0
    AND NOT job.meta ? 'adk_oban_waits'
  )
ORDER BY
  -- Those that interrupt go before all that wait, the latest of them first.
  job.args ->> 'when_busy' IN ('interrupt', 'rollback') IS TRUE DESC,
  CASE WHEN job.args ->> 'when_busy' IN ('interrupt', 'rollback')
    THEN -job.id
    ELSE job.id
  END
