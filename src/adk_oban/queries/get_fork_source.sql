-- What a job was about, and how far it came.
SELECT
  result.app_name,
  result.invocation_id,
  shown.invocation_id,
  steps.count,
  steps.began_at AT TIME ZONE 'UTC',
  -- Steps are kept for less time than results.
  coalesce(result.model_calls, 0) > 0
FROM (SELECT) AS one
LEFT JOIN {schema}.adk_oban_results AS result
  ON result.job_id = %(job_id)s
  -- Oban's ids start again after a reset of its tables.
  AND result.finished_at >= %(since)s
LEFT JOIN LATERAL (
  SELECT data::jsonb ->> 'invocation_id' AS invocation_id
  FROM {schema}.adk_oban_events
  WHERE job_id = %(job_id)s AND type = 'event' AND at >= %(since)s
  ORDER BY id DESC
  LIMIT 1
) AS shown ON true
CROSS JOIN LATERAL (
  SELECT count(*) AS count, min(began_at) AS began_at
  FROM {schema}.adk_oban_steps
  WHERE job_id = %(job_id)s AND state = 'done'
    AND recorded_at >= %(since)s::timestamptz - interval '1 hour'
) AS steps
