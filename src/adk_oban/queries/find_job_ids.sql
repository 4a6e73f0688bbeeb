-- The same pages, without what jobs hold.
SELECT id, inserted_at
FROM ({pages}) AS job
ORDER BY inserted_at DESC, id DESC
LIMIT %(limit)s
