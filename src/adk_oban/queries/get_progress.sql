-- Where a job stands: its state, and what it ended with; either may be gone.
SELECT
  job.state::text AS job_state,
  job.attempt AS job_attempt,
  job.errors -> -1 ->> 'error' AS job_error,
  result.state AS result_state,
  result.attempt AS result_attempt,
  result.error AS result_error
FROM (SELECT %(job_id)s::bigint AS id) AS wanted
LEFT JOIN {schema}.oban_jobs AS job ON job.id = wanted.id
LEFT JOIN {schema}.adk_oban_results AS result
  ON result.job_id = wanted.id
  -- Oban's ids start again after a reset of its tables.
  AND result.finished_at >= coalesce(job.inserted_at, '-infinity') AT TIME ZONE 'UTC'
