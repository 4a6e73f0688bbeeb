-- The steps of jobs that ended longer ago, a batch at a time, oldest first.
DELETE FROM {schema}.adk_oban_steps
WHERE (job_id, segment, key, ordinal) IN (
  SELECT job_id, segment, key, ordinal
  FROM {schema}.adk_oban_steps AS step
  WHERE recorded_at < now() - %(max_age)s::interval
    AND NOT EXISTS (
      SELECT FROM {schema}.oban_jobs AS job
      WHERE job.id = step.job_id
        AND job.state NOT IN ('completed', 'discarded', 'cancelled')
    )
    AND NOT EXISTS (
      SELECT FROM {schema}.adk_oban_results AS result
      WHERE result.job_id = step.job_id
        AND result.finished_at >= now() - %(max_age)s::interval
    )
  ORDER BY recorded_at
  LIMIT %(limit)s
)
