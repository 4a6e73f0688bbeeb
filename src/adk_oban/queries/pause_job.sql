-- Lets a job wait as long as somebody is asked something, or until the first deadline;
-- as a snooze does, without a slot, and the attempt does not count.
UPDATE {schema}.oban_jobs AS job
SET
  state = 'scheduled',
  attempt = greatest(job.attempt - 1, 0),
  scheduled_at = coalesce(
    timezone('UTC', open.deadline), timezone('UTC', now()) + interval '10 years'
  ),
  meta = job.meta || jsonb_build_object('adk_oban_waits', %(waits)s::text)
FROM (
  SELECT count(*) AS asked, min(deadline) AS deadline
  FROM {schema}.adk_oban_approvals
  WHERE job_id = %(job_id)s AND state = 'open'
) AS open
WHERE job.id = %(job_id)s AND open.asked > 0
RETURNING job.id
