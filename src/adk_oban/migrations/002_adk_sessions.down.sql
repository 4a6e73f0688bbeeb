DROP TABLE IF EXISTS
  {schema}.events,
  {schema}.sessions,
  {schema}.user_states,
  {schema}.app_states,
  {schema}.adk_internal_metadata;
