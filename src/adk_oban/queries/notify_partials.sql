-- Partial text of many answers, in order, to whoever listens.
SELECT pg_notify(%(channel)s, payload)
FROM unnest(%(payloads)s::text[]) WITH ORDINALITY AS told (payload, position)
ORDER BY position
