-- Copies a session as it was before an event, and adds others. What later events changed in
-- its state is what the last event before says; where none does, it is left out.
WITH source AS (
  SELECT *
  FROM {schema}.sessions
  WHERE app_name = %(app_name)s AND user_id = %(user_id)s AND id = %(session_id)s
), event AS (
  SELECT
    *,
    (timestamp, id) < (%(before_time)s::timestamp, %(before_id)s::text) AS is_kept
  FROM {schema}.events
  WHERE app_name = %(app_name)s
    AND user_id = %(user_id)s
    AND session_id = %(session_id)s
), delta AS (
  SELECT event.timestamp, event.id, event.is_kept, delta.key, delta.value
  FROM event
  CROSS JOIN LATERAL jsonb_each(
    coalesce(nullif(event.event_data #> '{actions,state_delta}', 'null'), '{}')
  ) AS delta
  -- The rest is not the session's own.
  WHERE delta.key !~ '^(app|user|temp):'
), changed AS (
  SELECT DISTINCT key FROM delta WHERE NOT is_kept
), known AS (
  SELECT DISTINCT ON (delta.key) delta.key, delta.value
  FROM delta
  JOIN changed USING (key)
  WHERE delta.is_kept
  ORDER BY delta.key, delta.timestamp DESC, delta.id DESC
), copied AS (
  INSERT INTO {schema}.sessions (app_name, user_id, id, state, create_time, update_time)
  SELECT
    %(app_name)s, %(user_id)s, %(copy_id)s,
    coalesce(source.state, '{}')
      - coalesce((SELECT array_agg(key) FROM changed), '{}')
      || coalesce((SELECT jsonb_object_agg(key, value) FROM known), '{}')
      || %(state)s::jsonb,
    timezone('UTC', now()),
    greatest(
      timezone('UTC', now()),
      (SELECT max(timestamp) FROM event) + interval '1 second'
    )
  FROM (SELECT) AS one
  LEFT JOIN source ON true
  -- A session that is not there yet is made by the job.
  WHERE source.id IS NOT NULL OR %(events)s::jsonb <> '[]'
  ON CONFLICT (app_name, user_id, id) DO NOTHING
  RETURNING 1
), added AS (
  SELECT
    id, invocation_id, data,
    greatest(
      timestamp,
      (SELECT max(timestamp) FROM event WHERE is_kept) + n * interval '1 microsecond'
    ) AS timestamp
  FROM jsonb_to_recordset(%(events)s::jsonb) AS named (
    n integer, id text, invocation_id text, timestamp timestamp, data jsonb
  )
), filled AS (
  INSERT INTO {schema}.events (
    id, app_name, user_id, session_id, invocation_id, timestamp, event_data
  )
  SELECT
    each.id, %(app_name)s, %(user_id)s, %(copy_id)s, each.invocation_id, each.timestamp,
    each.data
  FROM copied
  CROSS JOIN (
    SELECT id, invocation_id, timestamp, event_data AS data FROM event WHERE is_kept
    UNION ALL
    SELECT id, invocation_id, timestamp, data FROM added
  ) AS each
)
-- Whether the copy's id was free.
SELECT EXISTS (SELECT FROM copied) OR (
  NOT EXISTS (SELECT FROM source)
  AND %(events)s::jsonb = '[]'
  AND NOT EXISTS (
    SELECT FROM {schema}.sessions
    WHERE app_name = %(app_name)s AND user_id = %(user_id)s AND id = %(copy_id)s
  )
)
