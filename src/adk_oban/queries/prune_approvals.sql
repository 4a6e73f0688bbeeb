-- Questions that were answered long ago, of jobs that are gone, a batch at a time.
DELETE FROM {schema}.adk_oban_approvals
WHERE id IN (
  SELECT id
  FROM {schema}.adk_oban_approvals AS approval
  WHERE answered_at < now() - %(max_age)s::interval
    AND NOT EXISTS (
      SELECT FROM {schema}.oban_jobs AS job WHERE job.id = approval.job_id
    )
  ORDER BY answered_at
  LIMIT %(limit)s
)
