-- Keys that stand for no job any more, a batch at a time.
DELETE FROM {schema}.adk_oban_uniques
WHERE key IN (
  SELECT key
  FROM {schema}.adk_oban_uniques
  WHERE expires_at < now()
  ORDER BY expires_at
  LIMIT %(limit)s
)
