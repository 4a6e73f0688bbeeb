-- Gives a new job the first steps of another, in their order.
INSERT INTO {schema}.adk_oban_steps (
  job_id, segment, key, ordinal, version, kind, name, agent, branch, state, parts,
  payload, usage, attempt, attempted_at, duration, began_at, recorded_at
)
SELECT
  %(copy_id)s, segment, key, ordinal, version, kind, name, agent, branch, state, parts,
  -- It says that no attempt of the new job has recorded them.
  payload, usage, attempt, coalesce(attempted_at, 'epoch'), duration, began_at,
  clock_timestamp()
FROM {schema}.adk_oban_steps
WHERE job_id = %(job_id)s AND state = 'done'
  -- Oban's ids start again after a reset of its tables; clocks differ a little.
  AND recorded_at >= %(since)s::timestamptz - interval '1 hour'
ORDER BY id
LIMIT %(count)s
