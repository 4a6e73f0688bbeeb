DELETE FROM {schema}.adk_oban_uniques WHERE key = %(key)s
