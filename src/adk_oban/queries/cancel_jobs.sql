-- Ends jobs that do not run. Marks those that run, so that they end also when their
-- process dies, and tells whoever runs them.
WITH locked AS MATERIALIZED (
  SELECT id, state
  FROM {schema}.oban_jobs
  WHERE id = ANY (%(ids)s::bigint[])
    AND state IN ('executing', 'available', 'scheduled', 'retryable', 'suspended')
  ORDER BY id
  FOR UPDATE
), marked AS (
  UPDATE {schema}.oban_jobs AS job
  SET meta = job.meta || jsonb_build_object(
    'adk_oban_cancel', jsonb_build_object(
      'keep', %(keep)s::boolean, 'reason', %(reason)s::text, 'at', clock_timestamp()
    )
  )
  FROM locked
  WHERE job.id = locked.id
    AND locked.state = 'executing'
    -- Whoever came first has said how.
    AND NOT job.meta ? 'adk_oban_cancel'
), ended AS (
  UPDATE {schema}.oban_jobs AS job
  SET
    state = 'cancelled',
    cancelled_at = timezone('UTC', clock_timestamp()),
    meta = job.meta || jsonb_build_object('cancel_attempted_at', timezone('UTC', now())),
    errors = job.errors || jsonb_build_object(
      'attempt', job.attempt,
      'at', to_char(timezone('UTC', now()), 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
      'error', coalesce(%(reason)s::text, 'cancelled while it waited')
    )
  FROM locked
  WHERE job.id = locked.id AND locked.state <> 'executing'
), notified AS MATERIALIZED (
  SELECT pg_notify(%(signal)s, json_build_object('action', 'pkill', 'job_id', id)::text)
  FROM locked
  WHERE state = 'executing'
)
SELECT locked.id, locked.state = 'executing'
FROM locked, (SELECT count(*) FROM notified) AS told
ORDER BY locked.id
