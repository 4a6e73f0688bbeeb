-- Gives a job that waits another message, and lets workers look again who passed it over
-- while its row was locked.
WITH merged AS (
  UPDATE {schema}.oban_jobs
  SET args = jsonb_set(args, '{message}', %(message)s::jsonb)
  WHERE id = %(id)s
  RETURNING *
), notified AS MATERIALIZED (
  SELECT pg_notify(%(channel)s, json_build_object('queue', queue)::text)
  FROM merged
  WHERE state = 'available'
)
SELECT
  id, state, queue, worker, attempt, max_attempts, priority, args, meta, errors, tags,
  attempted_by, inserted_at, attempted_at, cancelled_at, completed_at, discarded_at,
  scheduled_at
FROM merged, (SELECT count(*) FROM notified) AS told
