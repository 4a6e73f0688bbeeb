DROP TABLE IF EXISTS {schema}.adk_oban_producers;
