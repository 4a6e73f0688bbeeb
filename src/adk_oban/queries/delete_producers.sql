DELETE FROM {schema}.adk_oban_producers AS producer
WHERE uuid = ANY (%(uuids)s)
  -- Those that have jobs stay, without a lock, until these have been rescued.
  AND (%(with_jobs)s OR NOT EXISTS (
    SELECT FROM {schema}.oban_jobs
    WHERE state = 'executing' AND attempted_by[2] = producer.uuid
  ))
