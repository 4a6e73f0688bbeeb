-- What happened in jobs that are not alive, a batch at a time, oldest first.
DELETE FROM {schema}.adk_oban_events
WHERE (job_id, id) IN (
  SELECT job_id, id
  FROM {schema}.adk_oban_events AS event
  WHERE at < now() - %(max_age)s::interval
    AND NOT EXISTS (
      SELECT FROM {schema}.oban_jobs AS job
      WHERE job.id = event.job_id
        AND job.state NOT IN ('completed', 'discarded', 'cancelled')
    )
    AND NOT EXISTS (
      SELECT FROM {schema}.adk_oban_results AS result
      WHERE result.job_id = event.job_id
        AND result.finished_at >= now() - %(max_age)s::interval
    )
  ORDER BY at
  LIMIT %(limit)s
)
