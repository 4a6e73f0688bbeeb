-- One event and its changes of state, unless the session has moved since it was read.
WITH last_event AS (
  SELECT timestamp, id
  FROM {schema}.events
  WHERE app_name = %(app_name)s AND user_id = %(user_id)s AND session_id = %(session_id)s
  ORDER BY timestamp DESC, id DESC
  LIMIT 1
), moved AS (
  UPDATE {schema}.sessions AS session
  SET
    state = session.state || %(session)s::jsonb,
    -- Later than the event before it and other than the revision before it: so events
    -- stay in their order, and a writer that missed this one is noticed.
    update_time = greatest(
      CASE WHEN session.update_time = %(timestamp)s::timestamp
        THEN session.update_time + interval '1 microsecond'
        ELSE %(timestamp)s::timestamp
      END,
      (SELECT timestamp + interval '1 microsecond' FROM last_event)
    )
  WHERE session.app_name = %(app_name)s
    AND session.user_id = %(user_id)s
    AND session.id = %(session_id)s
    AND CASE
      WHEN %(marker)s::timestamp IS NOT NULL
      THEN session.update_time = %(marker)s::timestamp
      ELSE session.update_time <= %(last_update_time)s::timestamp
        OR (SELECT id FROM last_event) IS NOT DISTINCT FROM %(last_event_id)s::text
    END
  RETURNING update_time
), saved AS (
  INSERT INTO {schema}.events (
    id, app_name, user_id, session_id, invocation_id, timestamp, event_data
  )
  SELECT
    %(id)s, %(app_name)s, %(user_id)s, %(session_id)s, %(invocation_id)s,
    update_time, %(event)s::jsonb
  FROM moved
), app_state AS (
  INSERT INTO {schema}.app_states AS stored (app_name, state, update_time)
  SELECT %(app_name)s, %(app)s::jsonb, update_time
  FROM moved
  WHERE %(app)s::jsonb <> '{}'
  ON CONFLICT (app_name) DO UPDATE
  SET state = stored.state || EXCLUDED.state, update_time = EXCLUDED.update_time
), user_state AS (
  INSERT INTO {schema}.user_states AS stored (app_name, user_id, state, update_time)
  SELECT %(app_name)s, %(user_id)s, %(user)s::jsonb, update_time
  FROM moved
  WHERE %(user)s::jsonb <> '{}'
  ON CONFLICT (app_name, user_id) DO UPDATE
  SET state = stored.state || EXCLUDED.state, update_time = EXCLUDED.update_time
)
SELECT (SELECT update_time FROM moved)
FROM {schema}.sessions
WHERE app_name = %(app_name)s AND user_id = %(user_id)s AND id = %(session_id)s
