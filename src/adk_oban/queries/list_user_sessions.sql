SELECT
  session.user_id,
  session.id,
  session.update_time,
  coalesce(app_state.state, '{}'),
  coalesce(user_state.state, '{}'),
  session.state
FROM {schema}.sessions AS session
LEFT JOIN {schema}.app_states AS app_state USING (app_name)
LEFT JOIN {schema}.user_states AS user_state USING (app_name, user_id)
WHERE session.app_name = %(app_name)s AND session.user_id = %(user_id)s
ORDER BY session.update_time, session.user_id, session.id
