-- Seconds until the next schedule is due, by the database's clock.
SELECT extract(epoch FROM next_run_at - clock_timestamp())::float8
FROM {schema}.adk_oban_schedules
WHERE paused_at IS NULL
ORDER BY next_run_at
LIMIT 1
