-- What the agents of one invocation said and did, in order.
SELECT event_data
FROM {schema}.events
WHERE app_name = %(app_name)s
  AND user_id = %(user_id)s
  AND session_id = %(session_id)s
  AND timestamp >= %(since)s
  AND invocation_id = %(invocation_id)s
  AND event_data ->> 'author' <> 'user'
ORDER BY timestamp, id
