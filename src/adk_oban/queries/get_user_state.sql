SELECT state
FROM {schema}.user_states
WHERE app_name = %(app_name)s AND user_id = %(user_id)s
