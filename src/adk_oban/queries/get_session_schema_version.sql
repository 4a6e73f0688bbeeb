SELECT value
FROM {schema}.adk_internal_metadata
WHERE key = 'schema_version'
