INSERT INTO {schema}.adk_oban_migrations (version, name, existed)
VALUES ({version}, '{name}', to_regclass('{schema}.{table}') IS NOT NULL)
ON CONFLICT (version) DO NOTHING;
