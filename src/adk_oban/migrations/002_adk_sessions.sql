-- ADK's own tables, schema version 1, as google-adk 2.13 creates them.
DO $$
BEGIN
  IF to_regclass('{schema}.adk_internal_metadata') IS NULL THEN
    IF to_regclass('{schema}.sessions') IS NOT NULL
      OR to_regclass('{schema}.events') IS NOT NULL
      OR to_regclass('{schema}.app_states') IS NOT NULL
      OR to_regclass('{schema}.user_states') IS NOT NULL
    THEN
      RAISE EXCEPTION 'schema {schema} has tables named like ADK''s (sessions, events, app_states, user_states) that are not of ADK''s schema version 1. If they are an older ADK''s, run "adk migrate session"; if they are another program''s, choose another schema: --prefix NAME, or AdkOban(prefix=...)'
        USING ERRCODE = 'AO001';
    END IF;
  END IF;
END
$$;

CREATE TABLE IF NOT EXISTS {schema}.adk_internal_metadata (
  key varchar(128) PRIMARY KEY,
  value varchar(256) NOT NULL
);

INSERT INTO {schema}.adk_internal_metadata (key, value)
VALUES ('schema_version', '1')
ON CONFLICT (key) DO NOTHING;

DO $$
DECLARE
  version text := (SELECT value FROM {schema}.adk_internal_metadata WHERE key = 'schema_version');
BEGIN
  IF version <> '1' THEN
    RAISE EXCEPTION 'schema {schema} holds ADK sessions of schema version %, and adk-oban needs version 1. Migrate them with "adk migrate session", or choose another schema: --prefix NAME, or AdkOban(prefix=...)', version
      USING ERRCODE = 'AO001';
  END IF;
END
$$;

CREATE TABLE IF NOT EXISTS {schema}.app_states (
  app_name varchar(128) PRIMARY KEY,
  state jsonb NOT NULL,
  update_time timestamp WITHOUT TIME ZONE NOT NULL
);

CREATE TABLE IF NOT EXISTS {schema}.user_states (
  app_name varchar(128) NOT NULL,
  user_id varchar(128) NOT NULL,
  state jsonb NOT NULL,
  update_time timestamp WITHOUT TIME ZONE NOT NULL,
  PRIMARY KEY (app_name, user_id)
);

CREATE TABLE IF NOT EXISTS {schema}.sessions (
  app_name varchar(128) NOT NULL,
  user_id varchar(128) NOT NULL,
  id varchar(128) NOT NULL,
  state jsonb NOT NULL,
  create_time timestamp WITHOUT TIME ZONE NOT NULL,
  update_time timestamp WITHOUT TIME ZONE NOT NULL,
  PRIMARY KEY (app_name, user_id, id)
);

CREATE TABLE IF NOT EXISTS {schema}.events (
  id varchar(128) NOT NULL,
  app_name varchar(128) NOT NULL,
  user_id varchar(128) NOT NULL,
  session_id varchar(128) NOT NULL,
  invocation_id varchar(256) NOT NULL,
  timestamp timestamp WITHOUT TIME ZONE NOT NULL,
  event_data jsonb,
  PRIMARY KEY (id, app_name, user_id, session_id),
  FOREIGN KEY (app_name, user_id, session_id)
    REFERENCES {schema}.sessions (app_name, user_id, id) ON DELETE CASCADE
);

CREATE INDEX IF NOT EXISTS idx_events_app_user_session_ts_id
ON {schema}.events (app_name, user_id, session_id, timestamp DESC, id DESC);
