-- Jobs of agents by each filter of list_jobs, newest first; other workers' jobs cost
-- nothing. Before anything else is locked; on a large table, make them before with CREATE
-- INDEX CONCURRENTLY, and they are there already.
CREATE INDEX IF NOT EXISTS adk_oban_jobs_state_index
ON {schema}.oban_jobs (state, inserted_at, id)
WHERE worker IN (
  'adk_oban.worker.AgentWorker', 'ADK.Oban.AgentWorker',
  'adk_oban.scheduled.ScheduledJob', 'ADK.Oban.ScheduledJob'
);

CREATE INDEX IF NOT EXISTS adk_oban_jobs_queue_index
ON {schema}.oban_jobs (queue, inserted_at, id)
WHERE worker IN (
  'adk_oban.worker.AgentWorker', 'ADK.Oban.AgentWorker',
  'adk_oban.scheduled.ScheduledJob', 'ADK.Oban.ScheduledJob'
);

-- Cut, since an entry has no room for more than 2,704 bytes.
CREATE INDEX IF NOT EXISTS adk_oban_jobs_agent_index
ON {schema}.oban_jobs (
  left(coalesce(
    args ->> 'agent_module', args ->> 'agent_name', args -> 'agent_config' ->> 'name',
    'oban_agent'
  ), 200), inserted_at, id
)
WHERE worker IN (
  'adk_oban.worker.AgentWorker', 'ADK.Oban.AgentWorker',
  'adk_oban.scheduled.ScheduledJob', 'ADK.Oban.ScheduledJob'
);

CREATE INDEX IF NOT EXISTS adk_oban_jobs_app_index
ON {schema}.oban_jobs ((args ->> 'app_name'), inserted_at, id)
WHERE worker IN (
  'adk_oban.worker.AgentWorker', 'ADK.Oban.AgentWorker',
  'adk_oban.scheduled.ScheduledJob', 'ADK.Oban.ScheduledJob'
);

CREATE INDEX IF NOT EXISTS adk_oban_jobs_user_index
ON {schema}.oban_jobs ((args ->> 'user_id'), inserted_at, id)
WHERE worker IN (
  'adk_oban.worker.AgentWorker', 'ADK.Oban.AgentWorker',
  'adk_oban.scheduled.ScheduledJob', 'ADK.Oban.ScheduledJob'
);

CREATE INDEX IF NOT EXISTS adk_oban_jobs_session_id_index
ON {schema}.oban_jobs ((args ->> 'session_id'), inserted_at, id)
WHERE worker IN (
  'adk_oban.worker.AgentWorker', 'ADK.Oban.AgentWorker',
  'adk_oban.scheduled.ScheduledJob', 'ADK.Oban.ScheduledJob'
);

CREATE INDEX IF NOT EXISTS adk_oban_jobs_tags_index
ON {schema}.oban_jobs USING gin (tags)
WHERE tags <> '{}' AND worker IN (
  'adk_oban.worker.AgentWorker', 'ADK.Oban.AgentWorker',
  'adk_oban.scheduled.ScheduledJob', 'ADK.Oban.ScheduledJob'
);

-- Which jobs of a session go before all that wait.
CREATE INDEX IF NOT EXISTS adk_oban_jobs_interrupting_index
ON {schema}.oban_jobs ((args ->> 'user_id'), (args ->> 'session_id'), id)
WHERE state NOT IN ('completed', 'discarded', 'cancelled')
  AND args ->> 'when_busy' IN ('interrupt', 'rollback');

-- Without these, nothing is known of expressions but in indexes of whole tables, and any
-- of the indexes above looks as good as another.
CREATE STATISTICS IF NOT EXISTS {schema}.adk_oban_jobs_statistics (ndistinct)
ON
  (args ->> 'app_name'),
  (args ->> 'user_id'),
  (args ->> 'session_id'),
  (left(coalesce(
    args ->> 'agent_module', args ->> 'agent_name', args -> 'agent_config' ->> 'name',
    'oban_agent'
  ), 200))
FROM {schema}.oban_jobs;

ANALYZE {schema}.oban_jobs;

-- What happened in each job, in order. Whoever adds to it holds the lock of the job's row
-- before it takes a number, so that numbers become visible in their order.
CREATE TABLE IF NOT EXISTS {schema}.adk_oban_events (
  id bigint GENERATED ALWAYS AS IDENTITY,
  job_id bigint NOT NULL,
  type text NOT NULL,
  attempt integer NOT NULL,
  -- What names an agent's event on every attempt, so that a replay shows it once.
  key text,
  -- How many steps of the job had been done when an agent made it.
  steps integer,
  -- JSON as text: nothing searches in it.
  data text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (job_id, id)
);

CREATE UNIQUE INDEX IF NOT EXISTS adk_oban_events_key_index
ON {schema}.adk_oban_events (job_id, key)
WHERE key IS NOT NULL;

CREATE INDEX IF NOT EXISTS adk_oban_events_at_index
ON {schema}.adk_oban_events (at);

-- The approvals inbox: one row for each question that an agent asked somebody outside.
CREATE TABLE IF NOT EXISTS {schema}.adk_oban_approvals (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id bigint NOT NULL,
  segment integer NOT NULL,
  -- ADK's id of the call that waits, or the key of our step.
  call_id text NOT NULL,
  -- Under which name ADK knows the call.
  call_name text NOT NULL DEFAULT '',
  kind text NOT NULL CHECK (
    kind IN ('confirmation', 'long_running', 'input', 'credential', 'decision')
  ),
  -- Whether the agent itself is asked again, from the journal, and not by ADK's means.
  replayed boolean NOT NULL DEFAULT false,
  app_name text NOT NULL,
  user_id text NOT NULL,
  session_id text NOT NULL,
  agent text NOT NULL,
  tool text NOT NULL,
  args jsonb NOT NULL DEFAULT '{}',
  hint text NOT NULL DEFAULT '',
  payload jsonb,
  asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  deadline timestamptz,
  on_deadline text NOT NULL DEFAULT 'reject' CHECK (
    on_deadline IN ('reject', 'approve', 'cancel')
  ),
  state text NOT NULL DEFAULT 'open' CHECK (
    state IN ('open', 'approved', 'rejected', 'responded', 'withdrawn')
  ),
  answered_at timestamptz,
  answered_by text,
  -- What ADK is told.
  response jsonb,
  edited_args jsonb,
  reason text
);

CREATE UNIQUE INDEX IF NOT EXISTS adk_oban_approvals_call_index
ON {schema}.adk_oban_approvals (job_id, segment, call_id)
WHERE state = 'open';

CREATE INDEX IF NOT EXISTS adk_oban_approvals_job_index
ON {schema}.adk_oban_approvals (job_id, id);

CREATE INDEX IF NOT EXISTS adk_oban_approvals_open_index
ON {schema}.adk_oban_approvals (id)
WHERE state = 'open';

CREATE INDEX IF NOT EXISTS adk_oban_approvals_user_index
ON {schema}.adk_oban_approvals (user_id, id);

CREATE INDEX IF NOT EXISTS adk_oban_approvals_answered_at_index
ON {schema}.adk_oban_approvals (answered_at);

-- Which job was enqueued last under a key, and until when it stands for others.
CREATE TABLE IF NOT EXISTS {schema}.adk_oban_uniques (
  key text PRIMARY KEY,
  job_id bigint NOT NULL,
  given_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz
);

CREATE INDEX IF NOT EXISTS adk_oban_uniques_job_index
ON {schema}.adk_oban_uniques (job_id);

-- A key goes with its job, whoever deletes that, and so do its questions; who waits for
-- one that has not ended is told that it is gone.
CREATE OR REPLACE FUNCTION {schema}.adk_oban_jobs_deleted() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM {schema}.adk_oban_uniques WHERE job_id IN (SELECT id FROM deleted);
  UPDATE {schema}.adk_oban_approvals
  SET state = 'withdrawn', answered_at = clock_timestamp()
  WHERE state = 'open' AND job_id IN (
    SELECT id FROM deleted WHERE state NOT IN ('completed', 'cancelled', 'discarded')
  );
  PERFORM pg_notify(
    TG_TABLE_SCHEMA || '.oban_adk_event',
    json_build_object('job_id', id, 'type', 'deleted')::text
  )
  FROM deleted
  WHERE state NOT IN ('completed', 'cancelled', 'discarded');
  RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS adk_oban_jobs_deleted ON {schema}.oban_jobs;

CREATE TRIGGER adk_oban_jobs_deleted
AFTER DELETE ON {schema}.oban_jobs
REFERENCING OLD TABLE AS deleted
FOR EACH STATEMENT
EXECUTE FUNCTION {schema}.adk_oban_jobs_deleted();

-- Batches of jobs after whose last one another job starts.
CREATE TABLE IF NOT EXISTS {schema}.adk_oban_fan_ins (
  key text PRIMARY KEY,
  size integer NOT NULL,
  ended integer NOT NULL,
  then_job_id bigint,
  updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS adk_oban_fan_ins_updated_at_index
ON {schema}.adk_oban_fan_ins (updated_at);

-- Which jobs of a batch have ended.
CREATE TABLE IF NOT EXISTS {schema}.adk_oban_fan_in_jobs (
  key text NOT NULL,
  job_id bigint NOT NULL,
  PRIMARY KEY (key, job_id)
);

-- Which attempt recorded a step, and when a job's first part began.
ALTER TABLE {schema}.adk_oban_steps
ADD COLUMN IF NOT EXISTS attempted_at timestamp;

ALTER TABLE {schema}.adk_oban_results
ADD COLUMN IF NOT EXISTS began_at timestamptz;

-- Gives an end to calls of long-running tools that nobody answers any more, since their job
-- has ended: models refuse a history with a call and no response to it. ADK itself leaves
-- out what it asks by calls of its own.
CREATE OR REPLACE FUNCTION {schema}.adk_oban_seal(ended_id bigint) RETURNS void
LANGUAGE sql AS $$
WITH call AS (
  SELECT
    asked.app_name, asked.user_id, asked.session_id, asked.call_id, asked.call_name,
    event.invocation_id, event.event_data ->> 'branch' AS branch,
    event.event_data ->> 'isolation_scope' AS scope, last.timestamp AS last_at,
    row_number() OVER (
      PARTITION BY asked.app_name, asked.user_id, asked.session_id ORDER BY asked.id
    ) AS n
  FROM {schema}.adk_oban_approvals AS asked
  JOIN {schema}.events AS event
    ON event.app_name = asked.app_name
    AND event.user_id = asked.user_id
    AND event.session_id = asked.session_id
    AND event.event_data @> jsonb_build_object('content', jsonb_build_object(
      'parts', jsonb_build_array(jsonb_build_object(
        'function_call', jsonb_build_object('id', asked.call_id)
      ))
    ))
  CROSS JOIN LATERAL (
    SELECT timestamp
    FROM {schema}.events AS other
    WHERE other.app_name = asked.app_name
      AND other.user_id = asked.user_id
      AND other.session_id = asked.session_id
    ORDER BY timestamp DESC, id DESC
    LIMIT 1
  ) AS last
  WHERE asked.job_id = ended_id
    AND asked.kind = 'long_running'
    AND NOT asked.replayed
    AND NOT EXISTS (
      SELECT FROM {schema}.events AS response
      WHERE response.app_name = asked.app_name
        AND response.user_id = asked.user_id
        AND response.session_id = asked.session_id
        AND response.event_data @> jsonb_build_object('content', jsonb_build_object(
          'parts', jsonb_build_array(jsonb_build_object(
            'function_response', jsonb_build_object('id', asked.call_id)
          ))
        ))
    )
), sealed AS (
  INSERT INTO {schema}.events (
    id, app_name, user_id, session_id, invocation_id, timestamp, event_data
  )
  SELECT
    made.id, app_name, user_id, session_id, invocation_id, made.at,
    jsonb_strip_nulls(jsonb_build_object(
      'id', made.id, 'invocation_id', invocation_id, 'author', 'user',
      'branch', branch, 'isolation_scope', scope,
      'timestamp', extract(epoch FROM made.at AT TIME ZONE 'UTC'),
      'content', jsonb_build_object('role', 'user', 'parts', jsonb_build_array(
        jsonb_build_object('function_response', jsonb_build_object(
          'id', call_id, 'name', call_name,
          'response', jsonb_build_object('error', 'nobody answered, and the job has ended')
        ))
      ))
    ))
  FROM call
  CROSS JOIN LATERAL (
    SELECT
      gen_random_uuid()::text AS id,
      greatest(timezone('UTC', clock_timestamp()), last_at)
        + make_interval(secs => n * 0.000001) AS at
  ) AS made
  RETURNING app_name, user_id, session_id, timestamp
)
UPDATE {schema}.sessions AS session
SET update_time = greatest(
  session.update_time + interval '1 microsecond', moved.at
)
FROM (
  SELECT app_name, user_id, session_id, max(timestamp) AS at
  FROM sealed
  GROUP BY app_name, user_id, session_id
) AS moved
WHERE session.app_name = moved.app_name
  AND session.user_id = moved.user_id
  AND session.id = moved.session_id
$$;

-- Notes how an agent's job moves on, whoever moves it: adk-oban, plain Oban, Oban for
-- Elixir, or a person with SQL.
CREATE OR REPLACE FUNCTION {schema}.adk_oban_job_moved() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
  has_ended boolean := NEW.state IN ('completed', 'cancelled', 'discarded');
  moved text := CASE
    WHEN has_ended THEN NEW.state::text
    WHEN NEW.state = 'retryable' THEN 'failed'
    WHEN NEW.state = 'scheduled' AND OLD.state = 'executing'
      AND NEW.meta ->> 'adk_oban_waits' IN ('approval', 'decision') THEN 'paused'
    WHEN NEW.state = 'available' AND OLD.state = 'executing'
      AND jsonb_array_length(NEW.errors) > jsonb_array_length(OLD.errors) THEN 'rescued'
    WHEN NEW.state = 'available' AND OLD.state IN ('completed', 'cancelled', 'discarded')
      THEN 'retried'
  END;
  told jsonb := '{}';
BEGIN
  IF moved IS NULL THEN
    RETURN NULL;
  END IF;

  IF moved IN ('failed', 'rescued', 'cancelled', 'discarded') THEN
    told := jsonb_build_object('error', NEW.errors -> -1 ->> 'error');
  END IF;
  IF moved = 'failed' THEN
    told := told || jsonb_build_object('again_at', NEW.scheduled_at AT TIME ZONE 'UTC');
  END IF;

  IF moved = 'paused' THEN
    SELECT jsonb_build_object('approvals', coalesce(jsonb_agg(jsonb_build_object(
      'id', asked.id, 'kind', asked.kind, 'agent', asked.agent, 'tool', asked.tool,
      'args', asked.args, 'hint', asked.hint, 'deadline', asked.deadline
    ) ORDER BY asked.id), '[]'))
    INTO told
    FROM {schema}.adk_oban_approvals AS asked
    WHERE asked.job_id = NEW.id AND asked.state = 'open';
  END IF;

  IF has_ended THEN
    SELECT told || jsonb_strip_nulls(jsonb_build_object(
      'text', result.text, 'output', result.output, 'error_code', result.error_code,
      'error', CASE moved
        -- Maybe after it had ended before, with a result that is kept.
        WHEN 'cancelled' THEN coalesce(told ->> 'error', result.error)
        ELSE coalesce(result.error, told ->> 'error')
      END
    ))
    INTO told
    FROM (SELECT) AS one
    LEFT JOIN {schema}.adk_oban_results AS result
      ON result.job_id = NEW.id
      AND result.state = NEW.state::text
      -- Oban's ids start again after a reset of its tables.
      AND result.finished_at >= NEW.inserted_at AT TIME ZONE 'UTC';

    IF moved <> 'completed' AND NEW.meta ? 'adk_oban_tally' THEN
      PERFORM {schema}.adk_oban_seal(NEW.id);
    END IF;

    IF moved <> 'completed' THEN
      -- Unless its attempt has kept it: why it ended outlives the job.
      INSERT INTO {schema}.adk_oban_results AS kept (
        job_id, state, attempt, agent, app_name, user_id, session_id, error, started_at
      )
      VALUES (
        NEW.id, moved, 0,
        coalesce(NEW.args ->> 'agent_module', NEW.args -> 'agent_config' ->> 'name', ''),
        coalesce(NEW.args ->> 'app_name', ''), coalesce(NEW.args ->> 'user_id', ''),
        coalesce(NEW.args ->> 'session_id', ''), told ->> 'error',
        coalesce(NEW.attempted_at, NEW.inserted_at) AT TIME ZONE 'UTC'
      )
      ON CONFLICT (job_id) DO UPDATE SET
        state = EXCLUDED.state,
        attempt = EXCLUDED.attempt,
        error = EXCLUDED.error,
        text = '',
        output = NULL,
        finished_at = clock_timestamp()
      WHERE kept.state <> EXCLUDED.state
        OR kept.finished_at < NEW.inserted_at AT TIME ZONE 'UTC';
    END IF;

    UPDATE {schema}.adk_oban_approvals
    SET state = 'withdrawn', answered_at = clock_timestamp()
    WHERE job_id = NEW.id AND state = 'open';

    IF jsonb_typeof(NEW.args -> 'on_complete') = 'array' THEN
      INSERT INTO {schema}.oban_jobs (worker, queue, args, max_attempts, priority)
      SELECT
        'adk_oban.on_complete.FollowUp', NEW.queue,
        jsonb_build_object(
          'job_id', NEW.id, 'state', NEW.state, 'attempt', NEW.attempt, 'then', step.what
        ),
        20, NEW.priority
      FROM jsonb_array_elements(NEW.args -> 'on_complete') AS step (what);
      PERFORM pg_notify(
        TG_TABLE_SCHEMA || '.oban_insert', json_build_object('queue', NEW.queue)::text
      );
    END IF;
  END IF;

  INSERT INTO {schema}.adk_oban_events (job_id, type, attempt, data)
  VALUES (NEW.id, moved, greatest(NEW.attempt, OLD.attempt), told::text);
  PERFORM pg_notify(
    TG_TABLE_SCHEMA || '.oban_adk_event',
    json_build_object('job_id', NEW.id, 'type', moved)::text
  );
  RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS adk_oban_job_moved ON {schema}.oban_jobs;

CREATE TRIGGER adk_oban_job_moved
AFTER UPDATE OF state ON {schema}.oban_jobs
FOR EACH ROW
WHEN (
  OLD.state IS DISTINCT FROM NEW.state
  AND NEW.state <> 'executing'
  AND NEW.worker IN (
    'adk_oban.worker.AgentWorker', 'ADK.Oban.AgentWorker',
    'adk_oban.scheduled.ScheduledJob', 'ADK.Oban.ScheduledJob'
  )
)
EXECUTE FUNCTION {schema}.adk_oban_job_moved();

-- Ends a job that was cancelled while it ran, whoever gives it up: its own attempt, a
-- hand-back, a rescue, or Oban itself.
CREATE OR REPLACE FUNCTION {schema}.adk_oban_job_given_up() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.state NOT IN ('completed', 'cancelled') THEN
    NEW.state := 'cancelled';
    NEW.cancelled_at := timezone('UTC', clock_timestamp());
    NEW.discarded_at := OLD.discarded_at;
    NEW.errors := NEW.errors || jsonb_build_object(
      'attempt', OLD.attempt,
      'at', to_char(timezone('UTC', now()), 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
      'error', coalesce(OLD.meta -> 'adk_oban_cancel' ->> 'reason', 'cancelled while it ran')
    );
  END IF;
  -- A retry is not cancelled again.
  NEW.meta := NEW.meta - 'adk_oban_cancel';
  RETURN NEW;
END
$$;

DROP TRIGGER IF EXISTS adk_oban_job_given_up ON {schema}.oban_jobs;

CREATE TRIGGER adk_oban_job_given_up
BEFORE UPDATE OF state ON {schema}.oban_jobs
FOR EACH ROW
WHEN (OLD.meta ? 'adk_oban_cancel' AND OLD.state = 'executing' AND NEW.state <> 'executing')
EXECUTE FUNCTION {schema}.adk_oban_job_given_up();
