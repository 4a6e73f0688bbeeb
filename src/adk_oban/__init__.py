"""Google ADK agents as durable background jobs on PostgreSQL, powered by Oban."""
