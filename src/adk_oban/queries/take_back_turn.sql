-- Takes out of a session what a job has committed before it paused. What that changed in
-- its state is what the last of the other events says; where none does, it is left out.
WITH turn AS (
  SELECT DISTINCT
    job.args ->> 'user_id' AS user_id, asked.app_name, asked.session_id,
    shown.data::jsonb ->> 'invocation_id' AS invocation_id
  FROM {schema}.oban_jobs AS job
  JOIN {schema}.adk_oban_approvals AS asked
    ON asked.job_id = job.id
    AND NOT asked.replayed
    -- Oban's ids start again after a reset of its tables.
    AND asked.asked_at >= job.inserted_at AT TIME ZONE 'UTC'
  JOIN {schema}.adk_oban_events AS shown
    ON shown.job_id = job.id
    AND shown.type = 'event'
    AND shown.at >= job.inserted_at AT TIME ZONE 'UTC'
  WHERE job.id = %(job_id)s
), forgotten AS (
  -- Retried, the job begins anew.
  UPDATE {schema}.adk_oban_approvals
  SET segment = -1 - segment
  WHERE job_id = %(job_id)s AND segment >= 0 AND NOT replayed
), untold AS (
  UPDATE {schema}.oban_jobs SET meta = meta - 'adk_oban_tally' WHERE id = %(job_id)s
), event AS (
  SELECT event.*, turn.invocation_id IS NULL AS is_kept
  FROM (SELECT DISTINCT app_name, user_id, session_id FROM turn) AS session
  JOIN {schema}.events AS event USING (app_name, user_id, session_id)
  LEFT JOIN turn USING (app_name, user_id, session_id, invocation_id)
), delta AS (
  SELECT
    event.app_name, event.user_id, event.session_id, event.timestamp, event.id,
    event.is_kept, delta.key, delta.value
  FROM event
  CROSS JOIN LATERAL jsonb_each(
    coalesce(nullif(event.event_data #> '{actions,state_delta}', 'null'), '{}')
  ) AS delta
  -- The rest is not the session's own.
  WHERE delta.key !~ '^(app|user|temp):'
), changed AS (
  SELECT DISTINCT key FROM delta WHERE NOT is_kept
), known AS (
  SELECT DISTINCT ON (delta.key) delta.key, delta.value
  FROM delta
  JOIN changed USING (key)
  WHERE delta.is_kept
  ORDER BY delta.key, delta.timestamp DESC, delta.id DESC
), gone AS (
  DELETE FROM {schema}.events AS stored
  USING event
  WHERE NOT event.is_kept
    AND stored.id = event.id
    AND stored.app_name = event.app_name
    AND stored.user_id = event.user_id
    AND stored.session_id = event.session_id
  RETURNING stored.app_name, stored.user_id, stored.session_id
)
UPDATE {schema}.sessions AS session
SET
  state = session.state
    - coalesce((SELECT array_agg(key) FROM changed), '{}')
    || coalesce((SELECT jsonb_object_agg(key, value) FROM known), '{}'),
  update_time = greatest(
    session.update_time + interval '1 microsecond', timezone('UTC', clock_timestamp())
  )
FROM (SELECT DISTINCT app_name, user_id, session_id FROM gone) AS moved
WHERE session.app_name = moved.app_name
  AND session.user_id = moved.user_id
  AND session.id = moved.session_id
