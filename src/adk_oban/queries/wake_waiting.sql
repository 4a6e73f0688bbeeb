-- Makes available the first job of each session that waits for its turn and has nobody
-- before it any more. Jobs of different apps may share the ids: each app has its first.
WITH session AS (
  SELECT DISTINCT args ->> 'user_id' AS user_id, args ->> 'session_id' AS session_id
  FROM {schema}.oban_jobs
  WHERE id = ANY (%(ids)s)
), waiting AS (
  SELECT job.id, job.queue
  FROM session
  JOIN {schema}.oban_jobs AS job
    ON job.args ->> 'user_id' = session.user_id
    AND job.args ->> 'session_id' = session.session_id
    AND job.state NOT IN ('completed', 'discarded', 'cancelled')
  WHERE job.state = 'scheduled'
    AND job.meta ->> 'adk_oban_waits' = 'order'
    AND NOT EXISTS (
      SELECT FROM {schema}.oban_jobs AS before
      WHERE before.args ->> 'user_id' = session.user_id
        AND before.args ->> 'session_id' = session.session_id
        AND before.state NOT IN ('completed', 'discarded', 'cancelled')
        AND before.id < job.id
        AND coalesce(before.args ->> 'app_name', job.args ->> 'app_name')
          IS NOT DISTINCT FROM coalesce(job.args ->> 'app_name', before.args ->> 'app_name')
        AND before.args ->> 'ordering' IS DISTINCT FROM 'none'
        -- One that is planned for later and has never run holds nobody up.
        AND NOT (
          before.state = 'scheduled' AND before.attempt = 0
          AND NOT before.meta ? 'adk_oban_waits'
        )
        -- One that interrupts goes before all that wait.
        AND (
          job.args ->> 'when_busy' IN ('interrupt', 'rollback') IS NOT TRUE
          OR before.state = 'executing'
        )
    )
    AND NOT EXISTS (
      SELECT FROM {schema}.oban_jobs AS next
      WHERE next.args ->> 'user_id' = session.user_id
        AND next.args ->> 'session_id' = session.session_id
        AND next.state NOT IN ('completed', 'discarded', 'cancelled')
        AND next.args ->> 'when_busy' IN ('interrupt', 'rollback')
        AND next.id > job.id
        AND coalesce(next.args ->> 'app_name', job.args ->> 'app_name')
          IS NOT DISTINCT FROM coalesce(job.args ->> 'app_name', next.args ->> 'app_name')
        AND next.args ->> 'ordering' IS DISTINCT FROM 'none'
    )
), woken AS (
  UPDATE {schema}.oban_jobs AS job
  SET state = 'available', scheduled_at = timezone('UTC', now())
  FROM waiting
  WHERE job.id = waiting.id AND job.state = 'scheduled'
  RETURNING job.queue
)
SELECT pg_notify(%(channel)s, json_build_object('queue', queue)::text)
FROM (SELECT DISTINCT queue FROM woken) AS queues
