-- Answers a question, unless somebody has; after the last one its job goes on at once.
WITH answered AS (
  UPDATE {schema}.adk_oban_approvals
  SET
    state = %(state)s,
    response = %(response)s::jsonb,
    edited_args = %(edited_args)s::jsonb,
    reason = %(reason)s,
    answered_by = %(by)s,
    answered_at = clock_timestamp()
  WHERE id = %(id)s
    AND state = 'open'
    AND (deadline IS NULL OR deadline > clock_timestamp())
  RETURNING *
), told AS (
  INSERT INTO {schema}.adk_oban_events (job_id, type, attempt, data)
  SELECT
    answered.job_id, 'answered',
    -- The attempt that asked, which was given back.
    job.attempt + (job.state <> 'executing')::integer,
    jsonb_strip_nulls(jsonb_build_object(
      'id', answered.id, 'state', answered.state, 'agent', answered.agent,
      'tool', answered.tool, 'answered_by', answered.answered_by,
      'edited_args', answered.edited_args, 'reason', answered.reason
    ))::text
  FROM answered
  JOIN {schema}.oban_jobs AS job ON job.id = answered.job_id
), woken AS (
  UPDATE {schema}.oban_jobs AS job
  SET
    state = 'available',
    scheduled_at = timezone('UTC', now()),
    meta = job.meta - 'adk_oban_waits'
  FROM answered
  WHERE job.id = answered.job_id
    AND job.state = 'scheduled'
    AND job.meta ->> 'adk_oban_waits' = 'approval'
    AND NOT EXISTS (
      SELECT FROM {schema}.adk_oban_approvals AS other
      WHERE other.job_id = answered.job_id
        AND other.state = 'open'
        AND other.id <> answered.id
    )
  RETURNING job.queue
)
SELECT
  to_jsonb(answered),
  pg_notify(
    %(events)s, json_build_object('job_id', answered.job_id)::text
  )::text,
  (
    SELECT pg_notify(%(inserts)s, json_build_object('queue', queue)::text)::text
    FROM woken
  )
FROM answered
