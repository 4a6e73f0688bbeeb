-- The job that asks something, until the transaction ends: its answers come one by one.
SELECT id
FROM {schema}.oban_jobs
WHERE id = (
  SELECT job_id FROM {schema}.adk_oban_approvals WHERE id = %(id)s
)
FOR UPDATE
