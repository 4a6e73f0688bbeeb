-- Lets those who look what a session is busy with come one after another.
SELECT pg_advisory_xact_lock(hashtextextended(
  jsonb_build_array(
    '{schema}.session', %(user_id)s::text, %(session_id)s::text
  )::text,
  0
))
