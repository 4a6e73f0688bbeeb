-- Which jobs of a session have not ended, in order. Before anything else is locked; on a
-- large table, make it before with CREATE INDEX CONCURRENTLY, and it is there already.
CREATE INDEX IF NOT EXISTS adk_oban_jobs_session_index
ON {schema}.oban_jobs ((args ->> 'user_id'), (args ->> 'session_id'), id)
WHERE state NOT IN ('completed', 'discarded', 'cancelled')
  AND (args ->> 'session_id') IS NOT NULL;

-- The journal: what each job's agents have done, so that no later attempt does it again.
CREATE TABLE IF NOT EXISTS {schema}.adk_oban_steps (
  id bigint GENERATED ALWAYS AS IDENTITY,
  job_id bigint NOT NULL,
  segment integer NOT NULL,
  key text NOT NULL,
  ordinal integer NOT NULL,
  version integer NOT NULL,
  kind text NOT NULL CHECK (kind IN ('model', 'tool', 'node')),
  name text NOT NULL,
  agent text NOT NULL,
  branch text NOT NULL,
  state text NOT NULL CHECK (state IN ('started', 'raised', 'done')),
  -- JSON as text: it may hold what jsonb cannot, and nothing searches in it.
  parts text NOT NULL,
  payload text,
  usage jsonb,
  attempt integer NOT NULL,
  duration double precision,
  began_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL,
  PRIMARY KEY (job_id, segment, key, ordinal)
);

CREATE INDEX IF NOT EXISTS adk_oban_steps_recorded_at_index
ON {schema}.adk_oban_steps (recorded_at);

-- Results say how much of a turn was replayed, and what it waits for.
ALTER TABLE {schema}.adk_oban_results
ADD COLUMN IF NOT EXISTS steps jsonb NOT NULL DEFAULT '{}',
ADD COLUMN IF NOT EXISTS waiting_for jsonb NOT NULL DEFAULT '[]';
