-- Takes a key until the transaction ends. Nobody's job has the number 0.
INSERT INTO {schema}.adk_oban_uniques AS held (key, job_id)
VALUES (%(key)s, 0)
ON CONFLICT (key) DO UPDATE SET job_id = held.job_id
