SELECT to_jsonb(approval)
FROM {schema}.adk_oban_approvals AS approval
WHERE id = %(id)s
