-- Each node passes over what another one is just running.
SELECT
  name, expression, timezone, args, options, missed, declared_by, paused_at,
  next_run_at, last_run_at, last_job_id
FROM {schema}.adk_oban_schedules
WHERE paused_at IS NULL
  AND next_run_at <= clock_timestamp()
ORDER BY next_run_at
LIMIT 100
FOR UPDATE SKIP LOCKED
