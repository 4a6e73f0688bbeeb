DELETE FROM {schema}.adk_oban_results
WHERE job_id IN (
  SELECT job_id
  FROM {schema}.adk_oban_results
  WHERE finished_at < now() - %(max_age)s::interval
  ORDER BY finished_at
  LIMIT %(limit)s
)
