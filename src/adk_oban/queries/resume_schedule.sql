UPDATE {schema}.adk_oban_schedules
SET paused_at = NULL, next_run_at = %(next_run_at)s, updated_at = now()
WHERE name = %(name)s
