-- The turns of many jobs, each whole or not at all: its session with events and state,
-- its result, and the job's end; or the questions that it pauses for. What a turn finds to
-- be somebody else's, or moved since it was read, it leaves alone.
WITH turn AS (
  SELECT *
  FROM jsonb_to_recordset(%(turns)s::jsonb) AS named (
    n integer, job_id bigint, attempted_at timestamp, ends text,
    app_name text, user_id text, session_id text, existed boolean, writes boolean,
    marker timestamp, update_time timestamp, create_time timestamp,
    session jsonb, app jsonb, "user" jsonb, result jsonb, approvals jsonb, tally jsonb
  )
), owned AS (
  SELECT turn.*
  FROM turn
  JOIN {schema}.oban_jobs AS job ON job.id = turn.job_id
  -- As text, lest the index on states is taken for the primary key: it is full of
  -- entries that have just died.
  WHERE job.state::text = 'executing' AND job.attempted_at = turn.attempted_at
    -- Who was told that a job is being cancelled does not find it completed.
    AND (turn.ends = 'cancelled' OR NOT job.meta ? 'adk_oban_cancel')
  -- In the order in which others take many.
  ORDER BY job.id
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
    began_at, started_at, finished_at
  )
  SELECT
    landed.job_id, r.state, r.attempt, r.agent, landed.app_name, landed.user_id,
    landed.session_id, r.invocation_id, r.text, r.output, r.session_state, r.usage,
    r.event_count, r.model_calls, r.error_code, r.error, r.steps, r.began_at,
    r.started_at, clock_timestamp()
  FROM landed
  CROSS JOIN LATERAL jsonb_to_record(landed.result) AS r (
    state text, attempt integer, agent text, invocation_id text, text text, output jsonb,
    session_state jsonb, usage jsonb, event_count integer, model_calls integer,
    error_code text, error text, steps jsonb, began_at timestamptz,
    started_at timestamptz
  )
  WHERE landed.ends <> 'paused'
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
    waiting_for = '[]',
    began_at = EXCLUDED.began_at,
    started_at = EXCLUDED.started_at,
    finished_at = EXCLUDED.finished_at
), asked AS (
  INSERT INTO {schema}.adk_oban_approvals (
    job_id, segment, call_id, call_name, kind, app_name, user_id, session_id, agent, tool, args,
    hint, payload, deadline, on_deadline
  )
  SELECT
    landed.job_id, a.segment, a.call_id, a.call_name, a.kind, landed.app_name, landed.user_id,
    landed.session_id, a.agent, a.tool, a.args, a.hint, a.payload,
    clock_timestamp() + make_interval(secs => a.timeout), a.on_deadline
  FROM landed
  CROSS JOIN LATERAL jsonb_to_recordset(landed.approvals) AS a (
    segment integer, call_id text, call_name text, kind text, agent text, tool text, args jsonb,
    hint text, payload jsonb, timeout double precision, on_deadline text
  )
  RETURNING job_id, deadline
), marked AS (
  -- A node of the version before knows no parts, and leaves what it cannot read.
  UPDATE {schema}.adk_oban_steps AS step
  SET version = 2
  FROM landed
  WHERE landed.ends = 'paused' AND step.job_id = landed.job_id
), shown AS (
  INSERT INTO {schema}.adk_oban_events (job_id, type, attempt, key, steps, data)
  SELECT landed.job_id, 'event', event.attempt, event.key, event.steps, event.data
  FROM jsonb_to_recordset(%(shown)s::jsonb) AS event (
    n integer, attempt integer, key text, steps integer, data text
  )
  JOIN landed ON landed.n = event.n
  -- Those that a job's own writer wrote, or is writing, are there.
  ON CONFLICT (job_id, key) WHERE key IS NOT NULL DO NOTHING
), ended AS (
  UPDATE {schema}.oban_jobs AS job
  SET
    state = CASE landed.ends WHEN 'paused' THEN 'scheduled' ELSE landed.ends
      END::{schema}.oban_job_state,
    completed_at = CASE landed.ends WHEN 'completed'
      THEN timezone('UTC', clock_timestamp()) ELSE job.completed_at
    END,
    cancelled_at = CASE landed.ends WHEN 'cancelled'
      THEN timezone('UTC', clock_timestamp()) ELSE job.cancelled_at
    END,
    errors = CASE landed.ends WHEN 'cancelled'
      THEN job.errors || jsonb_build_object(
        'attempt', job.attempt,
        'at', to_char(timezone('UTC', now()), 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
        'error', landed.result ->> 'error'
      )
      ELSE job.errors
    END,
    -- Somebody's answer makes it available, or the first deadline does.
    scheduled_at = CASE landed.ends WHEN 'paused'
      THEN coalesce(
        (
          SELECT timezone('UTC', min(asked.deadline))
          FROM asked WHERE asked.job_id = landed.job_id
        ),
        timezone('UTC', now()) + interval '10 years'
      )
      ELSE job.scheduled_at
    END,
    -- As a snooze does: what waits has not failed.
    attempt = CASE landed.ends WHEN 'paused' THEN greatest(job.attempt - 1, 0)
      ELSE job.attempt
    END,
    meta = CASE landed.ends WHEN 'paused'
      THEN job.meta || jsonb_build_object(
        'adk_oban_waits', 'approval', 'adk_oban_tally', landed.tally
      )
      ELSE job.meta
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
        AND (
          job.state IN ('completed', 'cancelled')
          OR job.state = 'scheduled' AND job.meta ->> 'adk_oban_waits' = 'approval'
        )
        AND job.attempted_at = turn.attempted_at
    ) THEN 'committed'
    WHEN EXISTS (
      SELECT FROM {schema}.oban_jobs AS job
      WHERE job.id = turn.job_id
        AND job.state::text = 'executing'
        AND job.attempted_at = turn.attempted_at
        AND job.meta ? 'adk_oban_cancel'
    ) THEN 'cancelled'
    ELSE 'lost'
  END AS status,
  EXISTS (
    SELECT FROM {schema}.oban_jobs AS next
    WHERE next.args ->> 'user_id' = turn.user_id
      AND next.args ->> 'session_id' = turn.session_id
      AND next.state NOT IN ('completed', 'discarded', 'cancelled')
      AND next.id <> turn.job_id
  ) AS has_next
FROM turn
LEFT JOIN owned USING (n)
LEFT JOIN landed USING (n)
