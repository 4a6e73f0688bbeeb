SELECT
  job_id, state, attempt, agent, app_name, user_id, session_id, invocation_id,
  text, output, session_state, usage, event_count, model_calls,
  error_code, error, steps, began_at, started_at, finished_at
FROM {schema}.adk_oban_results AS result
WHERE job_id = %(job_id)s
  -- One that was retried has not ended with what stands there.
  AND NOT EXISTS (
    SELECT FROM {schema}.oban_jobs AS job
    WHERE job.id = result.job_id
      AND job.state::text NOT IN ('completed', 'discarded', 'cancelled')
      AND job.inserted_at AT TIME ZONE 'UTC' <= result.finished_at
  )
