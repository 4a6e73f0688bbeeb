-- The jobs of a batch that have ended.
SELECT job_id
FROM {schema}.adk_oban_fan_in_jobs
WHERE key = %(key)s
ORDER BY job_id
