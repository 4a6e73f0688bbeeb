-- The turns of many jobs, each whole or not at all: its session with events and state,
-- its result, and the job's completion. What a turn finds to be somebody else's, or moved
-- since it was read, it leaves alone.
WITH turn AS (
  SELECT *
  FROM jsonb_to_recordset(%(turns)s::jsonb) AS named (
    n integer, job_id bigint, attempted_at timestamp, completes boolean,
    app_name text, user_id text, session_id text, existed boolean, writes boolean,
    marker timestamp, update_time timestamp, create_time timestamp,
    session jsonb, app jsonb, "user" jsonb, result jsonb
  )
), owned AS (
  SELECT turn.*
  FROM turn
  JOIN {schema}.oban_jobs AS job ON job.id = turn.job_id
  -- As text, lest the index on states is taken for the primary key: it is full of
  -- entries that have just died.
  WHERE job.state::text = 'executing' AND job.attempted_at = turn.attempted_at
  FOR UPDATE OF job
), created AS (
  INSERT INTO {schema}.sessions (app_name, user_id, id, state, create_time, update_time)
  SELECT app_name, user_id, session_id, session, create_time, update_time
  FROM owned
  WHERE NOT existed AND writes
  ON CONFLICT (app_name, user_id, id) DO NOTHING
  RETURNING app_name, user_id, id
), moved AS (
  UPDATE {schema}.sessions AS stored
  SET
    -- A state that stays is not written anew, however large it is.
    state = CASE WHEN owned.session = '{}' THEN stored.state
      ELSE stored.state || owned.session
    END,
    update_time = owned.update_time
  FROM owned
  WHERE owned.existed AND owned.writes
    AND stored.app_name = owned.app_name
    AND stored.user_id = owned.user_id
    AND stored.id = owned.session_id
    AND stored.update_time = owned.marker
  RETURNING stored.app_name, stored.user_id, stored.id
), landed AS (
  SELECT owned.*
  FROM owned
  WHERE NOT owned.writes
    OR EXISTS (
      SELECT FROM (SELECT * FROM created UNION ALL SELECT * FROM moved) AS session
      WHERE session.app_name = owned.app_name
        AND session.user_id = owned.user_id
        AND session.id = owned.session_id
    )
), saved AS (
  INSERT INTO {schema}.events (
    id, app_name, user_id, session_id, invocation_id, timestamp, event_data
  )
  SELECT
    event.id, landed.app_name, landed.user_id, landed.session_id, event.invocation_id,
    event.timestamp, event.data
  FROM jsonb_to_recordset(%(events)s::jsonb) AS event (
    n integer, id text, invocation_id text, timestamp timestamp, data jsonb
  )
  JOIN landed ON landed.n = event.n
), app_state AS (
  INSERT INTO {schema}.app_states AS stored (app_name, state, update_time)
  SELECT DISTINCT ON (app_name) app_name, app, update_time
  FROM landed
  WHERE writes AND (
    app <> '{}' OR NOT existed AND NOT EXISTS (
      SELECT FROM {schema}.app_states AS there WHERE there.app_name = landed.app_name
    )
  )
  ORDER BY app_name, app = '{}'
  ON CONFLICT (app_name) DO UPDATE
  SET state = stored.state || EXCLUDED.state, update_time = EXCLUDED.update_time
  RETURNING 1
), user_state AS (
  INSERT INTO {schema}.user_states AS stored (app_name, user_id, state, update_time)
  SELECT DISTINCT ON (app_name, user_id) app_name, user_id, "user", update_time
  FROM landed
  -- After the app's state: rows locked in one order everywhere, no deadlock.
  CROSS JOIN (SELECT count(*) FROM app_state) AS after
  WHERE writes AND (
    "user" <> '{}' OR NOT existed AND NOT EXISTS (
      SELECT FROM {schema}.user_states AS there
      WHERE there.app_name = landed.app_name AND there.user_id = landed.user_id
    )
  )
  ORDER BY app_name, user_id, "user" = '{}'
  ON CONFLICT (app_name, user_id) DO UPDATE
  SET state = stored.state || EXCLUDED.state, update_time = EXCLUDED.update_time
), result AS (
  INSERT INTO {schema}.adk_oban_results AS stored (
    job_id, state, attempt, agent, app_name, user_id, session_id, invocation_id, text,
    output, session_state, usage, event_count, model_calls, error_code, error, steps,
    waiting_for, started_at, finished_at
  )
  SELECT
    landed.job_id, r.state, r.attempt, r.agent, landed.app_name, landed.user_id,
    landed.session_id, r.invocation_id, r.text, r.output, r.session_state, r.usage,
    r.event_count, r.model_calls, r.error_code, r.error, r.steps, r.waiting_for,
    r.started_at, clock_timestamp()
  FROM landed
  CROSS JOIN LATERAL jsonb_to_record(landed.result) AS r (
    state text, attempt integer, agent text, invocation_id text, text text, output jsonb,
    session_state jsonb, usage jsonb, event_count integer, model_calls integer,
    error_code text, error text, steps jsonb, waiting_for jsonb, started_at timestamptz
  )
  ON CONFLICT (job_id) DO UPDATE SET
    state = EXCLUDED.state,
    attempt = EXCLUDED.attempt,
    agent = EXCLUDED.agent,
    app_name = EXCLUDED.app_name,
    user_id = EXCLUDED.user_id,
    session_id = EXCLUDED.session_id,
    invocation_id = EXCLUDED.invocation_id,
    text = EXCLUDED.text,
    output = EXCLUDED.output,
    session_state = EXCLUDED.session_state,
    usage = EXCLUDED.usage,
    event_count = EXCLUDED.event_count,
    model_calls = EXCLUDED.model_calls,
    error_code = EXCLUDED.error_code,
    error = EXCLUDED.error,
    steps = EXCLUDED.steps,
    waiting_for = EXCLUDED.waiting_for,
    started_at = EXCLUDED.started_at,
    finished_at = EXCLUDED.finished_at
), ended AS (
  UPDATE {schema}.oban_jobs AS job
  SET
    state = CASE WHEN landed.completes THEN 'completed' ELSE 'cancelled'
      END::{schema}.oban_job_state,
    completed_at = CASE WHEN landed.completes
      THEN timezone('UTC', clock_timestamp()) ELSE job.completed_at
    END,
    cancelled_at = CASE WHEN landed.completes
      THEN job.cancelled_at ELSE timezone('UTC', clock_timestamp())
    END,
    errors = CASE WHEN landed.completes THEN job.errors
      ELSE job.errors || jsonb_build_object(
        'attempt', job.attempt,
        'at', to_char(timezone('UTC', now()), 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
        'error', landed.result ->> 'error'
      )
    END
  FROM landed
  WHERE job.id = landed.job_id
)
SELECT
  turn.n,
  CASE
    WHEN landed.n IS NOT NULL THEN 'committed'
    WHEN owned.n IS NOT NULL THEN 'moved'
    -- An earlier try did it, whose answer was lost with its connection.
    WHEN EXISTS (
      SELECT FROM {schema}.oban_jobs AS job
      WHERE job.id = turn.job_id
        AND job.state IN ('completed', 'cancelled')
        AND job.attempted_at = turn.attempted_at
    ) THEN 'committed'
    ELSE 'lost'
  END AS status,
  EXISTS (
    SELECT FROM {schema}.oban_jobs AS next
    WHERE next.args ->> 'user_id' = turn.user_id
      AND next.args ->> 'session_id' = turn.session_id
      AND next.state NOT IN ('completed', 'discarded', 'cancelled')
      AND next.id <> turn.job_id
  ) AS has_next,
  CASE WHEN landed.n IS NOT NULL
    THEN pg_notify(%(channel)s, json_build_object('job_id', turn.job_id)::text)::text
  END
FROM turn
LEFT JOIN owned USING (n)
LEFT JOIN landed USING (n)
