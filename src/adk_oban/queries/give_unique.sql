UPDATE {schema}.adk_oban_uniques
SET
  job_id = %(job_id)s,
  given_at = clock_timestamp(),
  expires_at = clock_timestamp() + %(period)s::interval
WHERE key = %(key)s
