UPDATE {schema}.adk_oban_schedules
SET
  next_run_at = %(next_run_at)s,
  last_run_at = coalesce(%(last_run_at)s, last_run_at),
  last_job_id = coalesce(%(last_job_id)s, last_job_id)
WHERE name = %(name)s
