-- Oban's own rescue, which leaves alone what is judged by its producer's lock.
UPDATE {schema}.oban_jobs AS job
SET
  state = CASE
    WHEN attempt >= max_attempts THEN 'discarded'
    ELSE 'available'
  END::{schema}.oban_job_state,
  discarded_at = CASE
    WHEN attempt >= max_attempts THEN timezone('UTC', now())
    ELSE discarded_at
  END,
  meta = CASE
    WHEN attempt >= max_attempts THEN meta
    ELSE meta || jsonb_build_object('rescued', coalesce((meta ->> 'rescued')::int, 0) + 1)
  END
WHERE
  (
    state = 'executing'
    AND attempted_at < timezone('UTC', now()) - make_interval(secs => %(rescue_after)s)
    AND NOT EXISTS (
      SELECT FROM {schema}.adk_oban_producers WHERE uuid = job.attempted_by[2]
    )
  )
  OR (state = 'available' AND attempt >= max_attempts)
