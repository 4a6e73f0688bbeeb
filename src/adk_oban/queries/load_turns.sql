-- All that attempts need to begin, for many jobs in one round trip: the session with its
-- events, the steps that were recorded, and whether they may run at all.
WITH asked AS (
  SELECT *
  FROM jsonb_to_recordset(%(asked)s::jsonb) AS named (
    n integer, job_id bigint, app_name text, user_id text, session_id text,
    recent bigint, after timestamp, ordered boolean
  )
)
SELECT
  asked.n,
  part.segment,
  (
    SELECT json_agg(approval ORDER BY approval.id)::text
    FROM {schema}.adk_oban_approvals AS approval
    WHERE approval.job_id = asked.job_id
      AND approval.segment = part.segment - (NOT approval.replayed)::int
      -- Those below were taken back.
      AND approval.segment >= 0
      AND approval.asked_at >= job.inserted_at AT TIME ZONE 'UTC'
  ) AS approvals,
  (
    SELECT json_agg(event.key)::text
    FROM {schema}.adk_oban_events AS event
    WHERE event.job_id = asked.job_id AND event.key IS NOT NULL
      AND event.at >= job.inserted_at AT TIME ZONE 'UTC'
  ) AS shown,
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
    WHERE step.job_id = asked.job_id AND step.segment = part.segment
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
      -- One that interrupts goes before all that wait.
      AND (
        job.args ->> 'when_busy' IN ('interrupt', 'rollback') IS NOT TRUE
        OR before.state = 'executing'
      )
  ) OR asked.ordered AND EXISTS (
    SELECT FROM {schema}.oban_jobs AS next
    WHERE next.args ->> 'user_id' = job.args ->> 'user_id'
      AND next.args ->> 'session_id' = job.args ->> 'session_id'
      AND next.state NOT IN ('completed', 'discarded', 'cancelled')
      AND next.args ->> 'when_busy' IN ('interrupt', 'rollback')
      AND next.id > job.id
      AND coalesce(next.args ->> 'app_name', asked.app_name) = asked.app_name
      AND next.args ->> 'ordering' IS DISTINCT FROM 'none'
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
    ) AS waits,
  job.meta ? 'adk_oban_cancel' AS is_cancelled
FROM asked
JOIN {schema}.oban_jobs AS job ON job.id = asked.job_id
-- Each pause that was committed has ended a part of the invocation.
CROSS JOIN LATERAL (
  SELECT coalesce(max(approval.segment) + 1, 0) AS segment
  FROM {schema}.adk_oban_approvals AS approval
  WHERE approval.job_id = asked.job_id
    AND NOT approval.replayed
    AND approval.segment >= 0
    -- Oban's ids start again after a reset of its tables.
    AND approval.asked_at >= job.inserted_at AT TIME ZONE 'UTC'
) AS part
-- Since when the parts before it are there: it needs all that was asked.
CROSS JOIN LATERAL (
  SELECT min(timestamp) AS began
  FROM {schema}.events
  WHERE part.segment > 0
    AND app_name = asked.app_name
    AND user_id = asked.user_id
    AND session_id = asked.session_id
    AND invocation_id = job.meta #>> '{adk_oban_tally,invocation_id}'
) AS own
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
      AND timestamp >= CASE WHEN asked.after IS NULL THEN '-infinity'
        ELSE least(asked.after, own.began)
      END
    ORDER BY timestamp DESC, id DESC
    LIMIT asked.recent + (
      SELECT count(*)
      FROM {schema}.events
      WHERE app_name = asked.app_name
        AND user_id = asked.user_id
        AND session_id = asked.session_id
        AND timestamp >= own.began
    )
  ) AS latest
) AS event ON session.id IS NOT NULL
