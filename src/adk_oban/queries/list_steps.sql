SELECT to_jsonb(step)
FROM {schema}.adk_oban_steps AS step
WHERE job_id = %(job_id)s
ORDER BY id
