-- Lets jobs go on at once that ended without an answer, or wait for their next attempt.
-- Those that ended while they waited for people ask again what they asked.
WITH locked AS MATERIALIZED (
  SELECT
    job.id,
    -- Whom a part that was committed waits for.
    (
      SELECT max(approval.segment)
      FROM {schema}.adk_oban_approvals AS approval
      WHERE approval.job_id = job.id
        AND approval.asked_at >= job.inserted_at AT TIME ZONE 'UTC'
        AND NOT approval.replayed
        AND approval.segment >= 0
    ) AS segment
  FROM {schema}.oban_jobs AS job
  WHERE job.id = ANY (%(ids)s::bigint[])
    AND job.state IN ('cancelled', 'discarded', 'retryable')
  ORDER BY job.id
  FOR UPDATE
), asked AS (
  UPDATE {schema}.adk_oban_approvals AS approval
  SET
    state = 'open',
    answered_at = NULL,
    asked_at = clock_timestamp(),
    -- They have as long as they had.
    deadline = clock_timestamp() + (approval.deadline - approval.asked_at)
  FROM locked
  WHERE approval.job_id = locked.id
    AND approval.segment = locked.segment
    AND NOT approval.replayed
    AND approval.state = 'withdrawn'
  RETURNING approval.job_id, approval.deadline
), waits AS (
  SELECT job_id, min(deadline) AS deadline FROM asked GROUP BY job_id
), retried AS (
  UPDATE {schema}.oban_jobs AS job
  SET
    state = CASE WHEN waits.job_id IS NULL THEN 'available' ELSE 'scheduled'
      END::{schema}.oban_job_state,
    scheduled_at = CASE WHEN waits.job_id IS NULL
      THEN timezone('UTC', now())
      ELSE coalesce(
        timezone('UTC', waits.deadline), timezone('UTC', now()) + interval '10 years'
      )
    END,
    max_attempts = greatest(job.max_attempts, job.attempt + 1),
    completed_at = NULL,
    cancelled_at = NULL,
    discarded_at = NULL,
    meta = CASE WHEN waits.job_id IS NULL
      THEN job.meta - '{adk_oban_cancel,adk_oban_waits,cancel_attempted_at}'::text[]
      ELSE job.meta - '{adk_oban_cancel,cancel_attempted_at}'::text[]
        || jsonb_build_object('adk_oban_waits', 'approval')
    END
  FROM locked
  LEFT JOIN waits ON waits.job_id = locked.id
  WHERE job.id = locked.id
  RETURNING job.id, job.state, job.queue
), notified AS MATERIALIZED (
  SELECT pg_notify(%(channel)s, json_build_object('queue', queue)::text)
  FROM (SELECT DISTINCT queue FROM retried WHERE state = 'available') AS queues
)
SELECT id FROM retried, (SELECT count(*) FROM notified) AS told ORDER BY id
