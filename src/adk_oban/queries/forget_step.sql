DELETE FROM {schema}.adk_oban_steps AS step
USING {schema}.oban_jobs AS job
WHERE step.job_id = %(job_id)s
  AND step.segment = %(segment)s
  AND step.key = %(key)s
  AND step.ordinal = %(ordinal)s
  AND job.id = step.job_id
  AND job.state = 'executing'
  AND job.attempted_at = %(attempted_at)s
