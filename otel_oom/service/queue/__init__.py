"""`otel-oom queue`: what waits in the storages of a config, and what can be done with it."""
