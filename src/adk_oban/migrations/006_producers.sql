-- The queues of nodes that hold a lock for as long as they live: only what these run is
-- judged by liveness.
CREATE TABLE IF NOT EXISTS {schema}.adk_oban_producers (
  uuid text PRIMARY KEY,
  node text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now()
);
