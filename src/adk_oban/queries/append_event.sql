-- One event and its changes of state, unless the session has moved since it was read.
WITH seen AS (
  SELECT session.update_time, latest.id AS event_id, latest.timestamp AS event_time
  FROM {schema}.sessions AS session
  LEFT JOIN LATERAL (
    SELECT event.id, event.timestamp
    FROM {schema}.events AS event
    WHERE event.app_name = %(app_name)s
      AND event.user_id = %(user_id)s
      AND event.session_id = %(session_id)s
    ORDER BY event.timestamp DESC, event.id DESC
    LIMIT 1
  ) AS latest ON true
  WHERE session.app_name = %(app_name)s
    AND session.user_id = %(user_id)s
    AND session.id = %(session_id)s
), moved AS (
  UPDATE {schema}.sessions AS session
  SET
    -- A state that stays is not written anew, however large it is.
    state = CASE WHEN %(session)s::jsonb = '{}'
      THEN session.state
      ELSE session.state || %(session)s::jsonb
    END,
    -- Never back and never the same: no revision may come twice.
    update_time = greatest(
      %(timestamp)s::timestamp,
      seen.update_time + interval '1 microsecond',
      seen.event_time + interval '1 microsecond'
    )
  FROM seen
  WHERE session.app_name = %(app_name)s
    AND session.user_id = %(user_id)s
    AND session.id = %(session_id)s
    -- False when another writer came first while this one waited for the row.
    AND session.update_time = seen.update_time
    AND CASE
      WHEN %(marker)s::timestamp IS NOT NULL
      THEN seen.update_time = %(marker)s::timestamp
      ELSE seen.update_time <= %(last_update_time)s::timestamp
        OR seen.event_id IS NOT DISTINCT FROM %(last_event_id)s::text
    END
  RETURNING
    session.update_time,
    -- Later than the event before it, so that events stay in their order.
    greatest(
      %(timestamp)s::timestamp, seen.event_time + interval '1 microsecond'
    ) AS event_time
), saved AS (
  INSERT INTO {schema}.events (
    id, app_name, user_id, session_id, invocation_id, timestamp, event_data
  )
  SELECT
    %(id)s, %(app_name)s, %(user_id)s, %(session_id)s, %(invocation_id)s,
    event_time, %(event)s::jsonb
  FROM moved
), app_state AS (
  INSERT INTO {schema}.app_states AS stored (app_name, state, update_time)
  SELECT %(app_name)s, %(app)s::jsonb, update_time
  FROM moved
  WHERE %(app)s::jsonb <> '{}'
  ON CONFLICT (app_name) DO UPDATE
  SET state = stored.state || EXCLUDED.state, update_time = EXCLUDED.update_time
  RETURNING 1
), user_state AS (
  INSERT INTO {schema}.user_states AS stored (app_name, user_id, state, update_time)
  SELECT %(app_name)s, %(user_id)s, %(user)s::jsonb, update_time
  FROM moved
  -- After the app's state: rows locked in one order everywhere, no deadlock.
  CROSS JOIN (SELECT count(*) FROM app_state) AS after
  WHERE %(user)s::jsonb <> '{}'
  ON CONFLICT (app_name, user_id) DO UPDATE
  SET state = stored.state || EXCLUDED.state, update_time = EXCLUDED.update_time
)
SELECT moved.update_time
FROM seen
LEFT JOIN moved ON true
