-- What an agent asks from the middle of its run; asked again, the open row stays.
INSERT INTO {schema}.adk_oban_approvals (
  job_id, segment, call_id, call_name, kind, replayed, app_name, user_id, session_id,
  agent, tool, args, hint, payload, deadline, on_deadline
)
SELECT
  %(job_id)s, segment, call_id, call_name, kind, true, %(app_name)s, %(user_id)s,
  %(session_id)s, agent, tool, args, hint, payload,
  clock_timestamp() + make_interval(secs => timeout), on_deadline
FROM jsonb_to_recordset(%(questions)s::jsonb) AS question (
  segment integer, call_id text, call_name text, kind text, agent text, tool text,
  args jsonb, hint text, payload jsonb, timeout double precision, on_deadline text
)
ON CONFLICT (job_id, segment, call_id) WHERE state = 'open' DO NOTHING
