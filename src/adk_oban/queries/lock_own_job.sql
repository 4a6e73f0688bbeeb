-- An attempt's job, if it still is the attempt's own, until the transaction ends.
SELECT id
FROM {schema}.oban_jobs
WHERE id = %(job_id)s
  AND state::text = 'executing'
  AND attempted_at = %(attempted_at)s
FOR UPDATE
