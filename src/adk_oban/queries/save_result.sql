-- Keeps how a job ended; those who wait for it hear of its end itself.
WITH owned AS (
  SELECT id FROM {schema}.oban_jobs
  WHERE id = %(job_id)s
    AND state::text = 'executing'
    AND attempted_at = %(attempted_at)s::timestamp
  FOR UPDATE
)
INSERT INTO {schema}.adk_oban_results AS results (
  job_id, state, attempt, agent, app_name, user_id, session_id, invocation_id,
  text, output, session_state, usage, event_count, model_calls,
  error_code, error, steps, started_at, finished_at
)
SELECT
  %(job_id)s, %(state)s, %(attempt)s, %(agent)s, %(app_name)s, %(user_id)s,
  %(session_id)s, %(invocation_id)s, %(text)s, %(output)s, %(session_state)s,
  %(usage)s, %(event_count)s, %(model_calls)s, %(error_code)s, %(error)s,
  %(steps)s, %(started_at)s, clock_timestamp()
-- Unless the job is somebody else's by now.
WHERE %(attempted_at)s::timestamp IS NULL OR EXISTS (SELECT FROM owned)
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
  started_at = EXCLUDED.started_at,
  finished_at = EXCLUDED.finished_at
