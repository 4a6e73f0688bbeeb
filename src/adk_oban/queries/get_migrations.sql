SELECT version, name, existed, applied_at
FROM {schema}.adk_oban_migrations
ORDER BY version
