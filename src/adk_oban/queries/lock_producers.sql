-- Shows a node's producers and takes their locks, which the session then holds. Whoever
-- sees the rows sees the locks, since both come with the same commit.
WITH producer AS MATERIALIZED (
  SELECT uuid FROM unnest(%(uuids)s::text[]) AS uuid
), registered AS (
  INSERT INTO {schema}.adk_oban_producers (uuid, node)
  SELECT uuid, %(node)s FROM producer
  ON CONFLICT (uuid) DO NOTHING
)
SELECT uuid
FROM producer
WHERE pg_try_advisory_lock(hashtextextended('{schema}.' || uuid, 0))
