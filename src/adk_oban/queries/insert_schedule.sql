INSERT INTO {schema}.adk_oban_schedules (
  name, expression, timezone, args, options, missed, next_run_at
) VALUES (
  %(name)s, %(expression)s, %(timezone)s, %(args)s, %(options)s, %(missed)s,
  %(next_run_at)s
)
ON CONFLICT (name) DO NOTHING
RETURNING name
