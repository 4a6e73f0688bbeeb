-- Steps of many jobs at once, and what their agents show by now, each only while its job is
-- still the writer's. Events whose job's row somebody holds are to be written later.
WITH step AS (
  SELECT *
  FROM jsonb_to_recordset(%(steps)s::jsonb) AS named (
    n integer, job_id bigint, attempted_at timestamp, segment integer, key text,
    ordinal integer, version integer, kind text, name text, agent text, branch text,
    state text, parts text, payload text, usage jsonb, attempt integer,
    duration double precision, began_at timestamptz, recorded_at timestamptz
  )
), owned AS (
  SELECT step.*
  FROM step
  JOIN {schema}.oban_jobs AS job ON job.id = step.job_id
  -- As text, lest the index on states is taken for the primary key: it is full of
  -- entries that have just died.
  WHERE job.state::text = 'executing' AND job.attempted_at = step.attempted_at
), saved AS (
  INSERT INTO {schema}.adk_oban_steps AS stored (
    job_id, segment, key, ordinal, version, kind, name, agent, branch, state, parts,
    payload, usage, attempt, duration, began_at, recorded_at, attempted_at
  )
  SELECT
    job_id, segment, key, ordinal, version, kind, name, agent, branch, state, parts,
    payload, usage, attempt, duration, began_at, recorded_at, attempted_at
  FROM owned
  ORDER BY n
  ON CONFLICT (job_id, segment, key, ordinal) DO UPDATE SET
    id = DEFAULT,
    state = EXCLUDED.state,
    payload = EXCLUDED.payload,
    usage = EXCLUDED.usage,
    attempt = EXCLUDED.attempt,
    duration = EXCLUDED.duration,
    recorded_at = EXCLUDED.recorded_at,
    attempted_at = EXCLUDED.attempted_at
), event AS MATERIALIZED (
  SELECT *
  FROM jsonb_to_recordset(%(events)s::jsonb) AS named (
    n integer, job_id bigint, attempted_at timestamp, attempt integer, key text,
    steps integer, data text
  )
), locked AS MATERIALIZED (
  -- Before an event takes its number, so that those of a job become visible in order.
  SELECT job.id, job.attempted_at
  FROM {schema}.oban_jobs AS job
  JOIN (SELECT DISTINCT job_id, attempted_at FROM event) AS mine ON mine.job_id = job.id
  WHERE job.state::text = 'executing' AND job.attempted_at = mine.attempted_at
  FOR NO KEY UPDATE OF job SKIP LOCKED
), shown AS (
  INSERT INTO {schema}.adk_oban_events (job_id, type, attempt, key, steps, data)
  SELECT event.job_id, 'event', event.attempt, event.key, event.steps, event.data
  FROM event
  JOIN locked ON locked.id = event.job_id AND locked.attempted_at = event.attempted_at
  ORDER BY event.n
  ON CONFLICT (job_id, key) WHERE key IS NOT NULL DO NOTHING
  RETURNING job_id
), notified AS MATERIALIZED (
  SELECT pg_notify(%(channel)s, json_build_object('job_id', job_id)::text)
  FROM (SELECT DISTINCT job_id FROM shown) AS told
)
SELECT owned.n AS step, NULL::integer AS event
FROM owned
UNION ALL
SELECT NULL, event.n
FROM event
JOIN {schema}.oban_jobs AS job ON job.id = event.job_id
WHERE job.state::text = 'executing'
  AND job.attempted_at = event.attempted_at
  AND NOT EXISTS (
    SELECT FROM locked
    WHERE locked.id = event.job_id AND locked.attempted_at = event.attempted_at
  )
UNION ALL
SELECT NULL, NULL FROM (SELECT count(*) FROM notified) AS told
