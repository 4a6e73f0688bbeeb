-- The inbox, longest waiting first. Open ones have an index of their own.
SELECT to_jsonb(approval)
FROM {schema}.adk_oban_approvals AS approval
WHERE id > %(after)s
  AND (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s)
  AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
  AND (%(session_id)s::text IS NULL OR session_id = %(session_id)s)
  AND (%(app_name)s::text IS NULL OR app_name = %(app_name)s)
  AND (%(agent)s::text IS NULL OR agent = %(agent)s)
  AND (%(tool)s::text IS NULL OR tool = %(tool)s)
  AND (%(kind)s::text IS NULL OR kind = %(kind)s)
ORDER BY id
LIMIT %(limit)s
