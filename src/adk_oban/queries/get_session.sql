-- The session's own row and its latest events, newest first, in one round trip.
-- As text, which is decoded faster than by the driver; numbered, since nothing else
-- holds the order of a union.
WITH session AS (
  SELECT state, update_time
  FROM {schema}.sessions
  WHERE app_name = %(app_name)s AND user_id = %(user_id)s AND id = %(session_id)s
), event AS (
  SELECT
    row_number() OVER (ORDER BY timestamp DESC, id DESC) AS place,
    timestamp, id, invocation_id, event_data
  FROM {schema}.events
  WHERE app_name = %(app_name)s AND user_id = %(user_id)s AND session_id = %(session_id)s
    AND timestamp >= coalesce(%(after)s::timestamp, '-infinity')
  ORDER BY timestamp DESC, id DESC
  LIMIT %(recent)s::bigint
)
SELECT
  0 AS place,
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
  )::text AS data
FROM session
UNION ALL
SELECT place, timestamp, id, invocation_id, event_data::text FROM event
