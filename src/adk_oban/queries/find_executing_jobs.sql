-- The jobs that producers run, but for those that were fetched just now and are not to be
-- cancelled.
SELECT id, meta ? 'adk_oban_cancel' AS is_cancelled, is_old
FROM {schema}.oban_jobs,
  LATERAL (
    SELECT attempted_at < timezone('UTC', now()) - make_interval(secs => %(patience)s)
  ) AS age (is_old)
WHERE state = 'executing'
  AND attempted_by[2] = ANY (%(uuids)s)
  AND (is_old OR meta ? 'adk_oban_cancel')
