-- Completes a job that has done what follows on another, if it is still the attempt's.
UPDATE {schema}.oban_jobs
SET
  state = 'completed',
  completed_at = timezone('UTC', now()),
  meta = meta || jsonb_strip_nulls(
    jsonb_build_object('then_job_id', %(then_job_id)s::bigint)
  )
WHERE id = %(id)s
  AND state::text = 'executing'
  AND attempted_at = %(attempted_at)s::timestamp
RETURNING id
