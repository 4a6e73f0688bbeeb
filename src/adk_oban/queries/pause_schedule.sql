UPDATE {schema}.adk_oban_schedules
SET paused_at = coalesce(paused_at, now()), updated_at = now()
WHERE name = %(name)s
RETURNING name
