-- What sessions share comes with the first of them only.
SELECT
  session.user_id,
  session.id,
  session.update_time,
  CASE WHEN row_number() OVER in_order = 1
    THEN (SELECT state FROM {schema}.app_states WHERE app_name = %(app_name)s)
  END,
  CASE WHEN row_number() OVER of_user = 1 THEN user_state.state END,
  session.state
FROM {schema}.sessions AS session
LEFT JOIN {schema}.user_states AS user_state USING (app_name, user_id)
WHERE session.app_name = %(app_name)s
WINDOW
  in_order AS (ORDER BY session.update_time, session.user_id, session.id),
  of_user AS (
    PARTITION BY session.user_id ORDER BY session.update_time, session.id
  )
ORDER BY session.update_time, session.user_id, session.id
