-- Of attempts that a node runs, those that are still its own.
SELECT job.id
FROM jsonb_to_recordset(%(jobs)s) AS run (id bigint, attempted_at timestamp)
JOIN {schema}.oban_jobs AS job
  ON job.id = run.id AND job.attempted_at = run.attempted_at
WHERE job.state::text = 'executing'
