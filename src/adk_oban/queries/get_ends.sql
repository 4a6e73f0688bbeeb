-- How jobs ended, in the order of their ids: from the kept results, and from the jobs
-- where there is none. All of them together have no more text than the budget.
WITH ended AS (
  SELECT
    asked.id,
    job.args,
    job.inserted_at,
    job.errors -> -1 ->> 'error' AS error,
    coalesce(
      %(state)s::text,
      CASE WHEN job.state IN ('completed', 'discarded', 'cancelled')
        THEN job.state::text
      END
    ) AS state
  FROM unnest(%(ids)s::bigint[]) AS asked (id)
  LEFT JOIN {schema}.oban_jobs AS job ON job.id = asked.id
), found AS (
  SELECT
    ended.*,
    result.job_id IS NOT NULL AS kept,
    coalesce(ended.state, result.state) AS end_state,
    result.agent, result.app_name, result.user_id, result.session_id,
    result.invocation_id, result.text, result.output, result.error AS told,
    result.error_code, result.model_calls, result.usage,
    CASE
      WHEN sum(
        coalesce(octet_length(result.text), 0)
        + coalesce(octet_length(result.output::text), 0)
      ) OVER () > %(budget)s THEN %(budget)s / count(*) OVER ()
      ELSE %(budget)s
    END::integer AS share
  FROM ended
  LEFT JOIN {schema}.adk_oban_results AS result
    ON result.job_id = ended.id
    AND result.state = coalesce(ended.state, result.state)
    -- Oban's ids start again after a reset of its tables.
    AND result.finished_at
      >= coalesce(ended.inserted_at AT TIME ZONE 'UTC', '-infinity')
)
SELECT
  id AS job_id,
  end_state AS state,
  kept,
  coalesce(
    agent, args ->> 'agent_module', args -> 'agent_config' ->> 'name',
    args ->> 'agent_name'
  ) AS agent,
  coalesce(app_name, args ->> 'app_name') AS app_name,
  coalesce(user_id, args ->> 'user_id') AS user_id,
  coalesce(session_id, args ->> 'session_id') AS session_id,
  invocation_id,
  left(text, share) AS text,
  coalesce(length(text), 0) AS length,
  CASE WHEN length(output::text) <= share THEN output END AS output,
  coalesce(length(output::text), 0) AS output_length,
  -- The last error of one that completed is of an attempt before.
  left(coalesce(told, CASE WHEN end_state <> 'completed' THEN error END), share) AS error,
  error_code,
  model_calls,
  usage
FROM found
ORDER BY id
