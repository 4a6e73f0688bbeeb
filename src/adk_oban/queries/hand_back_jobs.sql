-- Makes available what a node's producers still run, as if this attempt had not been.
WITH handed_back AS (
  UPDATE {schema}.oban_jobs
  SET
    state = 'available',
    attempt = greatest(attempt - 1, 0)
  WHERE state = 'executing'
    AND attempted_by[2] = ANY (%(uuids)s)
    AND (%(workers)s::text[] IS NULL OR worker = ANY (%(workers)s))
    AND id <> ALL (%(acked)s)
    AND (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s))
  -- One that was cancelled has ended by this.
  RETURNING id, queue, state
), notified AS MATERIALIZED (
  SELECT pg_notify(%(channel)s, json_build_object('queue', queue)::text)
  FROM (SELECT DISTINCT queue FROM handed_back WHERE state = 'available') AS queues
)
SELECT id, state = 'cancelled' FROM handed_back, (SELECT count(*) FROM notified) AS told
