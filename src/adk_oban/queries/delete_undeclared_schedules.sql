DELETE FROM {schema}.adk_oban_schedules
WHERE declared_by = %(declared_by)s
  AND name <> ALL (%(names)s)
