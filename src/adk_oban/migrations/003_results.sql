-- How a job ended, kept longer than the job.
CREATE TABLE IF NOT EXISTS {schema}.adk_oban_results (
  job_id bigint PRIMARY KEY,
  state text NOT NULL CHECK (state IN ('completed', 'discarded', 'cancelled')),
  attempt integer NOT NULL,
  agent text NOT NULL,
  app_name text NOT NULL,
  user_id text NOT NULL,
  session_id text NOT NULL,
  invocation_id text,
  text text NOT NULL DEFAULT '',
  output jsonb,
  session_state jsonb NOT NULL DEFAULT '{}',
  usage jsonb NOT NULL DEFAULT '{}',
  event_count integer NOT NULL DEFAULT 0,
  model_calls integer NOT NULL DEFAULT 0,
  error_code text,
  error text,
  started_at timestamptz NOT NULL,
  finished_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS adk_oban_results_finished_at_index
ON {schema}.adk_oban_results (finished_at);
