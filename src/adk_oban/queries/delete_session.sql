DELETE FROM {schema}.sessions
WHERE app_name = %(app_name)s AND user_id = %(user_id)s AND id = %(session_id)s
