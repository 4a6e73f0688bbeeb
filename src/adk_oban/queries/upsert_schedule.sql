-- A declared schedule that is there already keeps its pause, and its next run unless its ticks changed.
INSERT INTO {schema}.adk_oban_schedules AS schedule (
  name, expression, timezone, args, options, missed, declared_by, next_run_at
) VALUES (
  %(name)s, %(expression)s, %(timezone)s, %(args)s, %(options)s, %(missed)s,
  %(declared_by)s, %(next_run_at)s
)
ON CONFLICT (name) DO UPDATE SET
  expression = EXCLUDED.expression,
  timezone = EXCLUDED.timezone,
  args = EXCLUDED.args,
  options = EXCLUDED.options,
  missed = EXCLUDED.missed,
  declared_by = EXCLUDED.declared_by,
  next_run_at = CASE
    WHEN (schedule.expression, schedule.timezone)
      = (EXCLUDED.expression, EXCLUDED.timezone)
    THEN schedule.next_run_at
    ELSE EXCLUDED.next_run_at
  END,
  updated_at = now()
