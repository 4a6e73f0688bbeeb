-- One migration at a time in this schema, whoever starts it; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('adk_oban.migrate.{schema}', 0));

DO $$
BEGIN
  IF EXISTS (
    SELECT FROM pg_get_keywords()
    WHERE format('%I', word) = '{schema}' AND catcode IN ('R', 'T')
  ) THEN
    RAISE EXCEPTION 'prefix {schema} is a reserved word of PostgreSQL; choose another'
      USING ERRCODE = 'AO001';
  END IF;
  IF to_regnamespace('{schema}') IS NULL THEN
    CREATE SCHEMA {schema};
  END IF;
END
$$;

-- Oban's installation asks for current_schema().
SELECT set_config('adk_oban.search_path', current_setting('search_path'), true);
SELECT set_config('search_path', '{schema}', true);

CREATE TABLE IF NOT EXISTS {schema}.adk_oban_migrations (
  version integer PRIMARY KEY,
  name text NOT NULL,
  existed boolean NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);
