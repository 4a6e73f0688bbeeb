-- Inserts many jobs; their ids, and so the rows that are returned, are in the given order.
WITH inserted AS (
  INSERT INTO {schema}.oban_jobs (
    args, inserted_at, max_attempts, meta, priority, queue, scheduled_at, state, tags, worker
  )
  SELECT
    args,
    coalesce(inserted_at, timezone('UTC', now())),
    max_attempts,
    meta,
    priority,
    queue,
    coalesce(scheduled_at, timezone('UTC', now())),
    CASE
      WHEN state = 'available' AND scheduled_at IS NOT NULL THEN 'scheduled'
      ELSE state
    END::{schema}.oban_job_state,
    tags,
    worker
  FROM ROWS FROM (
    jsonb_to_recordset(%(jobs)s) AS (
      args jsonb, inserted_at timestamp, max_attempts smallint, meta jsonb,
      priority smallint, queue text, scheduled_at timestamp, state text, tags text[],
      worker text
    )
  ) WITH ORDINALITY AS job (
    args, inserted_at, max_attempts, meta, priority, queue, scheduled_at, state, tags,
    worker, position
  )
  ORDER BY position
  RETURNING id, inserted_at, queue, scheduled_at, state
), notified AS MATERIALIZED (
  SELECT pg_notify(%(channel)s, json_build_object('queue', queue)::text)
  FROM (SELECT DISTINCT queue FROM inserted WHERE state = 'available') AS queues
)
SELECT id, inserted_at, queue, scheduled_at, state, (SELECT count(*) FROM notified)
FROM inserted
ORDER BY id
