-- The pages of several states as one.
SELECT *
FROM ({pages}) AS job
ORDER BY inserted_at DESC, id DESC
LIMIT %(limit)s
