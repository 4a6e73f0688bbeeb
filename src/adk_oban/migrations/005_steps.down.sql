DROP TABLE IF EXISTS {schema}.adk_oban_steps;
DROP INDEX IF EXISTS {schema}.adk_oban_jobs_session_index;
ALTER TABLE IF EXISTS {schema}.adk_oban_results
DROP COLUMN IF EXISTS steps,
DROP COLUMN IF EXISTS waiting_for;
