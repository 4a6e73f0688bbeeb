SELECT
  name, expression, timezone, args, options, missed, declared_by, paused_at,
  next_run_at, last_run_at, last_job_id
FROM {schema}.adk_oban_schedules
WHERE name = %(name)s
FOR UPDATE
