"""The program: `otel-oom`, or `python -m otel_oom`."""

from __future__ import annotations

import sys

from otel_oom.service import handover


def main() -> None:
    """Run the agent without the command line's own modules, or any other command with them."""
    if sys.argv[1:2] == ["run"] and not handover.is_wanted():
        status = handover.run()
        if status is not None:
            sys.exit(status)
    from otel_oom import cli  # noqa: PLC0415

    cli.main()


if __name__ == "__main__":
    main()
