-- A step in the transaction of its tool: the job stays the writer's until that ends.
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
  FOR SHARE OF job
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
)
SELECT n FROM owned
