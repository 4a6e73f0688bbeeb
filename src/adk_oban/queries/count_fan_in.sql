-- Counts a job of a batch that has ended, once; until the commit no other is counted.
WITH added AS (
  INSERT INTO {schema}.adk_oban_fan_in_jobs (key, job_id)
  VALUES (%(key)s, %(job_id)s)
  ON CONFLICT DO NOTHING
  RETURNING job_id
)
INSERT INTO {schema}.adk_oban_fan_ins AS batch (key, size, ended)
SELECT %(key)s, %(size)s, count(*) FROM added
ON CONFLICT (key) DO UPDATE
SET ended = batch.ended + EXCLUDED.ended, updated_at = now()
RETURNING size, ended, then_job_id, EXISTS (SELECT FROM added) AS is_new
