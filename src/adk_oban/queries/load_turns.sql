-- All that attempts need to begin, for many jobs in one round trip: the session with its
-- events, the steps that were recorded, and whether they may run at all.
WITH asked AS (
  SELECT *
  FROM jsonb_to_recordset(%(asked)s::jsonb) AS named (
    n integer, job_id bigint, app_name text, user_id text, session_id text,
    recent bigint, after timestamp, ordered boolean, segment integer
  )
)
SELECT
  asked.n,
  session.update_time,
  session.state::text AS session_state,
  (
    SELECT state::text FROM {schema}.app_states WHERE app_name = asked.app_name
  ) AS app_state,
  (
    SELECT state::text FROM {schema}.user_states
    WHERE app_name = asked.app_name AND user_id = asked.user_id
  ) AS user_state,
  event.data AS events,
  (
    SELECT timestamp
    FROM {schema}.events
    WHERE app_name = asked.app_name
      AND user_id = asked.user_id
      AND session_id = asked.session_id
    ORDER BY timestamp DESC, id DESC
    LIMIT 1
  ) AS last_event_at,
  (
    SELECT json_agg(step ORDER BY step.id)::text
    FROM {schema}.adk_oban_steps AS step
    WHERE step.job_id = asked.job_id AND step.segment = asked.segment
      -- Oban's ids start again after a reset of its tables; clocks differ a little.
      AND step.recorded_at >= job.inserted_at AT TIME ZONE 'UTC' - interval '1 hour'
  ) AS steps,
  EXISTS (
    SELECT FROM {schema}.adk_oban_results AS result
    WHERE result.job_id = asked.job_id
      AND result.state = 'completed'
      -- Oban's ids start again after a reset of its tables.
      AND result.finished_at >= job.inserted_at AT TIME ZONE 'UTC'
  ) AS completed,
  coalesce((
    SELECT result.attempt
    FROM {schema}.adk_oban_results AS result
    WHERE result.job_id = asked.job_id AND result.state = 'cancelled'
  ), 0) AS cancelled_at_attempt,
  asked.ordered AND EXISTS (
    SELECT FROM {schema}.oban_jobs AS before
    WHERE before.args ->> 'user_id' = job.args ->> 'user_id'
      AND before.args ->> 'session_id' = job.args ->> 'session_id'
      AND before.state NOT IN ('completed', 'discarded', 'cancelled')
      AND before.id < job.id
      AND coalesce(before.args ->> 'app_name', asked.app_name) = asked.app_name
      AND before.args ->> 'ordering' IS DISTINCT FROM 'none'
      -- One that is planned for later and has never run holds nobody up.
      AND NOT (
        before.state = 'scheduled' AND before.attempt = 0
        AND NOT before.meta ? 'adk_oban_waits'
      )
  ) OR asked.ordered
    -- One that was planned may come due while a later one runs.
    AND job.scheduled_at > job.inserted_at + interval '1 second'
    AND EXISTS (
      SELECT FROM {schema}.oban_jobs AS running
      WHERE running.args ->> 'user_id' = job.args ->> 'user_id'
        AND running.args ->> 'session_id' = job.args ->> 'session_id'
        AND running.state NOT IN ('completed', 'discarded', 'cancelled')
        AND running.state = 'executing'
        AND running.id > job.id
        AND coalesce(running.args ->> 'app_name', asked.app_name) = asked.app_name
        AND running.args ->> 'ordering' IS DISTINCT FROM 'none'
    ) AS waits
FROM asked
JOIN {schema}.oban_jobs AS job ON job.id = asked.job_id
LEFT JOIN {schema}.sessions AS session
  ON session.app_name = asked.app_name
  AND session.user_id = asked.user_id
  AND session.id = asked.session_id
LEFT JOIN LATERAL (
  SELECT
    '[' || string_agg(
      CASE WHEN event_data ? 'id' AND event_data ? 'timestamp'
        THEN event_data
        ELSE jsonb_build_object('timestamp', extract(epoch FROM timestamp))
          || event_data
          || jsonb_build_object('id', id, 'invocation_id', invocation_id)
      END::text, ',' ORDER BY timestamp, id
    ) || ']' AS data
  FROM (
    SELECT id, invocation_id, timestamp, event_data
    FROM {schema}.events
    WHERE app_name = asked.app_name
      AND user_id = asked.user_id
      AND session_id = asked.session_id
      AND timestamp >= coalesce(asked.after, '-infinity')
    ORDER BY timestamp DESC, id DESC
    LIMIT asked.recent
  ) AS latest
) AS event ON session.id IS NOT NULL
