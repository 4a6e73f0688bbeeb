-- The jobs that producers run, but for those that were fetched just now.
SELECT id
FROM {schema}.oban_jobs
WHERE state = 'executing'
  AND attempted_by[2] = ANY (%(uuids)s)
  AND attempted_at < timezone('UTC', now()) - make_interval(secs => %(patience)s)
