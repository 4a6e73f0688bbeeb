-- How an attempt that runs is to be cancelled.
SELECT
  (meta -> 'adk_oban_cancel' ->> 'keep')::boolean AS keep,
  meta -> 'adk_oban_cancel' ->> 'reason' AS reason
FROM {schema}.oban_jobs
WHERE id = %(job_id)s
  AND attempted_at = %(attempted_at)s
  AND meta ? 'adk_oban_cancel'
