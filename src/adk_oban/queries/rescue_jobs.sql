-- Makes the jobs of dead producers available again, or discards them after their last
-- attempt, with what is known of their end.
WITH orphan AS MATERIALIZED (
  SELECT
    job.id,
    format(
      'the process of node %%s ended without a word, %%s',
      job.attempted_by[1],
      coalesce(step.told, 'before the first step of this job was recorded')
    ) AS error,
    job.attempt >= job.max_attempts AND NOT open.found AS is_last,
    -- A tool that runs once had begun: a person decides, and no attempt is used up.
    CASE WHEN open.found THEN greatest(job.attempt - 1, 0) ELSE job.attempt END AS attempt
  FROM {schema}.oban_jobs AS job
  LEFT JOIN LATERAL (
    SELECT format(
      'after the %%s %%L of agent %%L (%%s)', kind, name, agent, state
    ) AS told
    FROM {schema}.adk_oban_steps
    WHERE job_id = job.id
    ORDER BY id DESC
    LIMIT 1
  ) AS step ON true
  CROSS JOIN LATERAL (
    SELECT EXISTS (
      SELECT FROM {schema}.adk_oban_steps
      WHERE job_id = job.id AND state = 'started'
    ) AS found
  ) AS open
  WHERE job.state = 'executing' AND job.attempted_by[2] = ANY (%(uuids)s)
  -- A dead process's last statement may still be running: it is waited for, elsewhere.
  FOR UPDATE OF job SKIP LOCKED
), rescued AS (
  UPDATE {schema}.oban_jobs AS job
  SET
    state = CASE
      WHEN orphan.is_last THEN 'discarded'
      ELSE 'available'
    END::{schema}.oban_job_state,
    discarded_at = CASE
      WHEN orphan.is_last THEN timezone('UTC', now())
      ELSE job.discarded_at
    END,
    scheduled_at = CASE
      WHEN orphan.is_last THEN job.scheduled_at
      ELSE timezone('UTC', now())
    END,
    meta = CASE
      WHEN orphan.is_last THEN job.meta
      ELSE job.meta
        || jsonb_build_object('rescued', coalesce((job.meta ->> 'rescued')::int, 0) + 1)
    END,
    attempt = orphan.attempt,
    errors = job.errors || jsonb_build_object(
      'attempt', job.attempt,
      'at', to_char(timezone('UTC', now()), 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
      'error', orphan.error
    )
  FROM orphan
  WHERE job.id = orphan.id AND job.state::text = 'executing'
  RETURNING job.*
), notified AS MATERIALIZED (
  SELECT pg_notify(%(channel)s, json_build_object('queue', queue)::text)
  FROM (SELECT DISTINCT queue FROM rescued WHERE state = 'available') AS queues
)
SELECT
  id, state, queue, worker, attempt, max_attempts, priority, args, meta, errors, tags,
  attempted_by, inserted_at, attempted_at, cancelled_at, completed_at, discarded_at,
  scheduled_at
FROM rescued, (SELECT count(*) FROM notified) AS told
