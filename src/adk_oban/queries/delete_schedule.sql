DELETE FROM {schema}.adk_oban_schedules
WHERE name = %(name)s
RETURNING name
