"""`python -m otel_oom` does what the command `otel-oom` does."""

from otel_oom import cli

if __name__ == "__main__":
    cli.main()
