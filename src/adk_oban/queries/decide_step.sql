-- A person says what became of a step whose outcome is unknown; its job goes on at once.
WITH open AS (
  SELECT step.job_id, step.segment, step.key, step.ordinal
  FROM {schema}.adk_oban_steps AS step
  JOIN {schema}.oban_jobs AS job ON job.id = step.job_id
  WHERE step.job_id = %(job_id)s
    AND step.id = %(id)s
    AND step.state <> 'done'
    -- While its body runs, there is nothing to decide.
    AND job.state::text <> 'executing'
  FOR UPDATE OF job, step
), forgotten AS (
  DELETE FROM {schema}.adk_oban_steps AS step
  USING open
  WHERE %(payload)s::text IS NULL
    AND step.job_id = open.job_id
    AND step.segment = open.segment
    AND step.key = open.key
    AND step.ordinal = open.ordinal
), settled AS (
  UPDATE {schema}.adk_oban_steps AS step
  SET state = 'done', payload = %(payload)s, recorded_at = %(recorded_at)s
  FROM open
  WHERE %(payload)s::text IS NOT NULL
    AND step.job_id = open.job_id
    AND step.segment = open.segment
    AND step.key = open.key
    AND step.ordinal = open.ordinal
), woken AS (
  UPDATE {schema}.oban_jobs AS job
  SET
    state = 'available',
    scheduled_at = timezone('UTC', now()),
    meta = job.meta - 'adk_oban_waits'
  FROM open
  WHERE job.id = open.job_id
    AND job.state = 'scheduled'
    AND job.meta ->> 'adk_oban_waits' = 'decision'
  RETURNING job.queue
)
SELECT
  (SELECT count(*) FROM open),
  (
    SELECT pg_notify(%(channel)s, json_build_object('queue', queue)::text)::text
    FROM woken
  )
