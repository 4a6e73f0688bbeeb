-- Notes which job a batch has started.
UPDATE {schema}.adk_oban_fan_ins
SET then_job_id = %(then_job_id)s
WHERE key = %(key)s
