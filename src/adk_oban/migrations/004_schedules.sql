CREATE TABLE IF NOT EXISTS {schema}.adk_oban_schedules (
  name text PRIMARY KEY,
  expression text NOT NULL,
  timezone text NOT NULL,
  args jsonb NOT NULL,
  options jsonb NOT NULL,
  missed text NOT NULL CHECK (missed IN ('skip', 'run_once')),
  declared_by text,
  paused_at timestamptz,
  next_run_at timestamptz NOT NULL,
  last_run_at timestamptz,
  last_job_id bigint,
  inserted_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS adk_oban_schedules_next_run_at_index
ON {schema}.adk_oban_schedules (next_run_at)
WHERE paused_at IS NULL;
