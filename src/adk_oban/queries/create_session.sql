-- State rows are written only when missing or changed: all sessions of an app share one.
WITH created AS (
  INSERT INTO {schema}.sessions (app_name, user_id, id, state, create_time, update_time)
  VALUES (
    %(app_name)s, %(user_id)s, %(session_id)s, %(session)s::jsonb, %(now)s, %(now)s
  )
  ON CONFLICT (app_name, user_id, id) DO NOTHING
  RETURNING state
), app_state AS (
  INSERT INTO {schema}.app_states AS stored (app_name, state, update_time)
  SELECT %(app_name)s, %(app)s::jsonb, %(now)s
  FROM created
  WHERE %(app)s::jsonb <> '{}'
    OR NOT EXISTS (SELECT FROM {schema}.app_states WHERE app_name = %(app_name)s)
  ON CONFLICT (app_name) DO UPDATE
  SET state = stored.state || EXCLUDED.state, update_time = EXCLUDED.update_time
  RETURNING state
), user_state AS (
  INSERT INTO {schema}.user_states AS stored (app_name, user_id, state, update_time)
  SELECT %(app_name)s, %(user_id)s, %(user)s::jsonb, %(now)s
  FROM created
  -- After the app's state: rows locked in one order everywhere, no deadlock.
  CROSS JOIN (SELECT count(*) FROM app_state) AS after
  WHERE %(user)s::jsonb <> '{}'
    OR NOT EXISTS (
      SELECT FROM {schema}.user_states
      WHERE app_name = %(app_name)s AND user_id = %(user_id)s
    )
  ON CONFLICT (app_name, user_id) DO UPDATE
  SET state = stored.state || EXCLUDED.state, update_time = EXCLUDED.update_time
  RETURNING state
)
SELECT
  coalesce(
    (SELECT state FROM app_state),
    (SELECT state FROM {schema}.app_states WHERE app_name = %(app_name)s),
    '{}'
  ),
  coalesce(
    (SELECT state FROM user_state),
    (
      SELECT state FROM {schema}.user_states
      WHERE app_name = %(app_name)s AND user_id = %(user_id)s
    ),
    '{}'
  ),
  created.state
FROM created
