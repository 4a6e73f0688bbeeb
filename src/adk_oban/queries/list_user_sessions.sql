-- What sessions share comes with the first of them only.
SELECT
  session.user_id,
  session.id,
  session.update_time,
  CASE WHEN row_number() OVER in_order = 1
    THEN (SELECT state FROM {schema}.app_states WHERE app_name = %(app_name)s)
  END,
  CASE WHEN row_number() OVER in_order = 1
    THEN (
      SELECT state FROM {schema}.user_states
      WHERE app_name = %(app_name)s AND user_id = %(user_id)s
    )
  END,
  session.state
FROM {schema}.sessions AS session
WHERE session.app_name = %(app_name)s AND session.user_id = %(user_id)s
WINDOW in_order AS (ORDER BY session.update_time, session.id)
ORDER BY session.update_time, session.id
