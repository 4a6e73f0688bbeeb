-- Returns the producers whose lock nobody holds, to one node at a time, and takes these
-- locks until the transaction ends, so that no owner comes back meanwhile.
WITH leader AS MATERIALIZED (
  SELECT
    pg_try_advisory_xact_lock(hashtextextended('{schema}.adk_oban_rescuer', 0)) AS leads,
    -- A process that is stopped now must not lead for ever.
    set_config('idle_in_transaction_session_timeout', '5s', true)
), held AS MATERIALIZED (
  SELECT (classid::bigint << 32) | objid::bigint AS key
  FROM pg_locks
  WHERE locktype = 'advisory'
    AND objsubid = 1
    AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
), silent AS MATERIALIZED (
  SELECT uuid, node, hashtextextended('{schema}.' || uuid, 0) AS key
  FROM {schema}.adk_oban_producers
  WHERE (SELECT leads FROM leader)
    -- All nodes lost their locks then, and take them again first.
    AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(patience)s)
    AND NOT EXISTS (
      SELECT FROM held WHERE key = hashtextextended('{schema}.' || uuid, 0)
    )
)
SELECT uuid, node
FROM silent
WHERE pg_try_advisory_xact_lock(key)
