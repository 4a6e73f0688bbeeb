DELETE FROM {schema}.adk_oban_migrations WHERE version = {version};
