"""The routers: thin, one file per thing."""
