"""`make demo`: runs the agent, makes a real OOM kill, shows the record, stops the agent.

A big process sleeps in a temporary memory cgroup; a small one asks for more than is left. The
kernel kills the sleeper: the victim is not the one who asked.
"""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
from typing import IO

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

from doubles import memory_cgroup

MIB = 1 << 20
PATIENCE_S = 30.0
AGENT = [sys.executable, "-P", "-m", "otel_oom", "run"]
CONFIG = """
receivers: {{oom: {{state_directory: "{folder}"}}}}
processors: {{resource: }}
exporters: {{debug: {{verbosity: normal}}, file: {{path: "{folder}/oom.jsonl"}}}}
service:
  pipelines:
    logs: {{receivers: [oom], processors: [resource], exporters: [debug, file]}}
    traces: {{receivers: [oom], processors: [resource], exporters: [file]}}
    metrics: {{receivers: [oom], processors: [resource], exporters: [file]}}
"""


def main() -> int:
    """Show one kill; 0 if its record came."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*AGENT, "--config", f"yaml:{CONFIG.format(folder=folder)}"]
        agent = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        shown, is_ready = threading.Event(), threading.Event()
        watchers = [
            threading.Thread(target=watch, args=(agent.stdout, sys.stdout, shown, "OOM: ")),
            threading.Thread(target=watch, args=(agent.stderr, sys.stderr, is_ready, "running;")),
        ]
        for watcher in watchers:
            watcher.start()
        is_ready.wait(PATIENCE_S)
        if agent.poll() is None:
            kill_somebody()
            shown.wait(PATIENCE_S)
            agent.send_signal(signal.SIGINT)
        status = agent.wait()
        for watcher in watchers:
            watcher.join()
        return status or not shown.is_set()


def kill_somebody() -> None:
    """A sleeper of 40 MiB dies, because a small process asks for 32 MiB of 64."""
    with memory_cgroup.temporary(64 * MIB, name="otel-oom-demo") as group:
        sleeper = group.hog(
            "comm=big-sleeper", "adj=900", "eat=40M", "say=ready", "pause", stdout=subprocess.PIPE
        )
        assert sleeper.stdout is not None
        with sleeper.stdout:
            sleeper.stdout.readline()
        print(f"demo: pid {sleeper.pid} sleeps with 40 MiB in {group.name}, limit 64 MiB")
        trigger = group.hog("comm=small-asker", "eat=32M")
        print(f"demo: pid {trigger.pid} asks for 32 MiB", flush=True)
        trigger.wait()
        sleeper.wait()


def watch(source: IO[str], target: IO[str], seen: threading.Event, sign: str) -> None:
    """Pass the agent's lines on, and tell when the awaited one has come."""
    with source:
        for line in source:
            print(line, end="", file=target, flush=True)
            if sign in line:
                seen.set()
    seen.set()


if __name__ == "__main__":
    raise SystemExit(main())
