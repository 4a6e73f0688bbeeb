-- The events of a job's invocation, in order: those in its session, then those that are
-- not there yet; each with the number of steps that had been done when it was made.
WITH shown AS (
  SELECT id AS number, steps, split_part(key, ':', 1)::integer AS segment, data::jsonb AS data
  FROM {schema}.adk_oban_events
  WHERE job_id = %(job_id)s AND type = 'event' AND key IS NOT NULL
    -- Oban's ids start again after a reset of its tables.
    AND at >= %(since)s
), landed AS (
  SELECT timestamp, id, event_data
  FROM {schema}.events
  WHERE app_name = %(app_name)s
    AND user_id = %(user_id)s
    AND session_id = %(session_id)s
    AND invocation_id = %(invocation_id)s
), paused AS (
  SELECT coalesce(max(segment) + 1, 0) AS segments
  FROM {schema}.adk_oban_approvals
  WHERE job_id = %(job_id)s AND NOT replayed AND asked_at >= %(since)s
)
SELECT event.steps, event.timestamp, event.id, event.data
FROM (
  SELECT
    1 AS part, landed.timestamp, landed.id, 0 AS number, shown.steps,
    landed.event_data AS data
  FROM landed
  LEFT JOIN shown ON shown.data ->> 'id' = landed.id
  UNION ALL
  SELECT 2, NULL, shown.data ->> 'id', shown.number, shown.steps, shown.data
  FROM shown
  CROSS JOIN paused
  -- What an attempt made that failed is not part of a turn that has landed.
  WHERE NOT EXISTS (SELECT FROM landed)
    OR shown.segment > 0 AND shown.segment = paused.segments
      AND NOT EXISTS (SELECT FROM landed WHERE landed.id = shown.data ->> 'id')
) AS event
ORDER BY event.part, event.timestamp, event.number, event.id
