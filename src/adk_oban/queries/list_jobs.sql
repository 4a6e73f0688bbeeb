-- A page of jobs, newest first, of one state or of any. A filter that nobody asked for is
-- left out with its line, so that the planner sees what there is, and takes its index.
SELECT
  id, state, queue, worker, attempt, max_attempts, priority, args, meta, errors, tags,
  attempted_by, inserted_at, attempted_at, cancelled_at, completed_at, discarded_at,
  scheduled_at
FROM {schema}.oban_jobs
-- As in the predicate of the indexes.
WHERE worker IN (
  'adk_oban.worker.AgentWorker', 'ADK.Oban.AgentWorker',
  'adk_oban.scheduled.ScheduledJob', 'ADK.Oban.ScheduledJob'
)
  AND state = %(state)s
  AND queue = %(queue)s
  AND left(coalesce(args ->> 'agent_module', args ->> 'agent_name', args -> 'agent_config' ->> 'name', 'oban_agent'), 200) = left(%(agent)s, 200)
  AND args ->> 'app_name' = %(app_name)s
  AND args ->> 'user_id' = %(user_id)s
  AND args ->> 'session_id' = %(session_id)s
  AND tags <> '{}' AND tags @> ARRAY[%(tag)s]
  AND inserted_at >= %(since)s
  AND inserted_at < %(until)s
  AND (inserted_at, id) < (%(after_at)s, %(after_id)s)
ORDER BY inserted_at DESC, id DESC
LIMIT %(limit)s
