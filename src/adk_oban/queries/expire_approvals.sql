-- Answers what nobody has answered in time, as it was said when it was asked; a question
-- that cancels its job stays open until that has ended. A credential cannot be refused.
WITH expired AS (
  UPDATE {schema}.adk_oban_approvals AS approval
  SET
    state = CASE
      WHEN on_deadline = 'approve' AND kind = 'confirmation' THEN 'approved'
      ELSE 'rejected'
    END,
    response = CASE
      WHEN kind = 'confirmation'
      THEN jsonb_build_object('confirmed', on_deadline = 'approve')
      ELSE jsonb_build_object('error', 'nobody answered in time')
    END,
    reason = 'nobody answered in time',
    answered_at = clock_timestamp(),
    answered_by = 'deadline'
  WHERE job_id = %(job_id)s AND state = 'open' AND deadline <= clock_timestamp()
    AND on_deadline <> 'cancel' AND kind <> 'credential'
  RETURNING *
), told AS (
  INSERT INTO {schema}.adk_oban_events (job_id, type, attempt, data)
  SELECT
    expired.job_id, 'answered', job.attempt,
    jsonb_build_object(
      'id', expired.id, 'state', expired.state, 'agent', expired.agent,
      'tool', expired.tool, 'answered_by', expired.answered_by, 'reason', expired.reason
    )::text
  FROM expired
  JOIN {schema}.oban_jobs AS job ON job.id = expired.job_id
  ORDER BY expired.id
)
SELECT to_jsonb(approval)
FROM {schema}.adk_oban_approvals AS approval
WHERE job_id = %(job_id)s AND state = 'open' AND deadline <= clock_timestamp()
  AND (on_deadline = 'cancel' OR kind = 'credential')
ORDER BY id
LIMIT 1
