-- What happened in jobs since their watchers looked, and where they stand by now: a row for
-- each event, or one without for a job that has nothing new.
WITH asked AS (
  SELECT *
  FROM jsonb_to_recordset(%(asked)s::jsonb) AS named (
    n integer, job_id bigint, after bigint
  )
)
SELECT
  asked.n, job.state::text, last.id, last.type,
  event.id, event.type, event.attempt, event.steps, event.data, event.at
FROM asked
LEFT JOIN {schema}.oban_jobs AS job ON job.id = asked.job_id
LEFT JOIN LATERAL (
  SELECT id, type
  FROM {schema}.adk_oban_events
  WHERE job_id = asked.job_id
    -- Oban's ids start again after a reset of its tables.
    AND at >= coalesce(job.inserted_at, '-infinity') AT TIME ZONE 'UTC'
  ORDER BY id DESC
  LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
  SELECT *
  FROM (
    SELECT
      *,
      sum(octet_length(data)) OVER (ORDER BY id) - octet_length(data) AS before
    FROM (
      SELECT *
      FROM {schema}.adk_oban_events
      WHERE job_id = asked.job_id
        AND id > asked.after
        AND at >= coalesce(job.inserted_at, '-infinity') AT TIME ZONE 'UTC'
      ORDER BY id
      LIMIT %(limit)s
    ) AS next
  ) AS weighed
  WHERE before < %(weight)s
) AS event ON true
ORDER BY asked.n, event.id
