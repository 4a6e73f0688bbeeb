SELECT
  job_id, state, attempt, agent, app_name, user_id, session_id, invocation_id,
  text, output, session_state, usage, event_count, model_calls,
  error_code, error, steps, waiting_for, started_at, finished_at
FROM {schema}.adk_oban_results
WHERE job_id = %(job_id)s
