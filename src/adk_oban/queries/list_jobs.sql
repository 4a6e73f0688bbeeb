SELECT
  id, state, queue, worker, attempt, max_attempts, priority, args, meta, errors, tags,
  attempted_by, inserted_at, attempted_at, cancelled_at, completed_at, discarded_at,
  scheduled_at
FROM {schema}.oban_jobs
WHERE worker = ANY (%(workers)s)
  AND (%(state)s::text IS NULL OR state = %(state)s::text::{schema}.oban_job_state)
  AND (%(queue)s::text IS NULL OR queue = %(queue)s)
ORDER BY id DESC
LIMIT %(limit)s
