-- The session's own row first, then its latest events, newest first: one round trip.
WITH session AS (
  SELECT state, update_time
  FROM {schema}.sessions
  WHERE app_name = %(app_name)s AND user_id = %(user_id)s AND id = %(session_id)s
), event AS (
  SELECT timestamp, id, invocation_id, event_data
  FROM {schema}.events
  WHERE app_name = %(app_name)s AND user_id = %(user_id)s AND session_id = %(session_id)s
    AND timestamp >= coalesce(%(after)s::timestamp, '-infinity')
  ORDER BY timestamp DESC, id DESC
  LIMIT %(recent)s::bigint
)
SELECT
  update_time AS timestamp,
  NULL AS id,
  NULL AS invocation_id,
  jsonb_build_object(
    'session', state,
    'app', (SELECT state FROM {schema}.app_states WHERE app_name = %(app_name)s),
    'user', (
      SELECT state FROM {schema}.user_states
      WHERE app_name = %(app_name)s AND user_id = %(user_id)s
    )
  ) AS data
FROM session
UNION ALL
SELECT timestamp, id, invocation_id, event_data FROM event
