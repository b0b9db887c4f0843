"""`otel-oom run` as a process that may or sees less: another user, or another mount namespace.

    with confined_agent.started(folder, as_nobody()) as agent:
        assert agent.wait() != 0

Its log records go to a file of OTLP JSON, a message a line. Agents that share a folder share
their books, not their records.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

PATIENCE_S = 30.0
NOBODY = 65534

_numbers = itertools.count()
_CONFIG = """\
receivers:
  oom:
    state_directory: {folder}/state
    root_path: {root}
    capture_modes: [{modes}]
exporters:
  file:
    path: {records}
service:
  pipelines:
    logs:
      receivers: [oom]
      exporters: [file]
"""


def as_nobody(*capabilities: str) -> list[str]:
    """As a user without rights, but for these capabilities (`bpf`, `perfmon`)."""
    some = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [
        "setpriv",
        *user,
        f"--inh-caps={some}",
        f"--ambient-caps={some}",
        f"--bounding-set={some}",
    ]


def with_mount_over(*paths: str) -> list[str]:
    """In a mount namespace of its own, in which these directories are empty."""
    hide = " && ".join(f"mount -t tmpfs none {path}" for path in paths)
    return ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh"]


@contextlib.contextmanager
def shared_folder() -> Iterator[pathlib.Path]:
    """A directory in which every user may write; pytest's own are for one user."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="otel-oom-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class ConfinedAgent:
    """A started agent."""

    def __init__(self, folder: pathlib.Path, confine: Sequence[str], root: str, modes: str) -> None:
        stem = folder / f"agent-{next(_numbers)}"
        self._stderr, self._file = stem.with_suffix(".log"), stem.with_suffix(".jsonl")
        config = stem.with_suffix(".yaml")
        config.write_text(_CONFIG.format(folder=folder, root=root, modes=modes, records=self._file))
        command = [sys.executable, "-P", "-m", "otel_oom", "run", "--config"]
        with self._stderr.open("wb") as log:
            self.process = subprocess.Popen(
                [*confine, *command, str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={k: v for k, v in os.environ.items() if not k.startswith("OTEL_")},
            )

    def log(self) -> str:
        """What it has said so far."""
        return self._stderr.read_text()

    def wait_until_running(self) -> None:
        """Return once it says so; raise with its log if it ends instead."""
        deadline = time.monotonic() + PATIENCE_S
        while "running;" not in self.log():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"status {self.process.poll()}:\n{self.log()}")
            time.sleep(0.01)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE_S)

    def records(self) -> list[dict[str, Any]]:
        """Attributes of all records that are in the file."""
        return list(_records(self._file))

    def kills(self, cgroup: str) -> list[dict[str, Any]]:
        """Those of a cgroup and of the ones below it."""
        found = self.records()
        return [r for r in found if str(r.get("process.linux.cgroup", "")).startswith(cgroup)]

    def wait_for_kills(self, cgroup: str, count: int) -> list[dict[str, Any]]:
        """The records, once there are as many."""
        deadline = time.monotonic() + PATIENCE_S
        while len(found := self.kills(cgroup)) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(found)} of {count} records came:\n{self.log()}")
            time.sleep(0.02)
        return found

    def wait_for_kill(self, cgroup: str, pid: int) -> dict[str, Any]:
        """The record of a kill; the log may not know its cgroup, the counters do not know its pid."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for record in self.records():
                is_counted = record.get("process.linux.cgroup") == cgroup
                if record.get("process.pid") == pid or (
                    is_counted and "oom.missed.count" in record
                ):
                    return record
            time.sleep(0.02)
        raise AssertionError(f"the kill did not come:\n{self.log()}")


@contextlib.contextmanager
def started(
    folder: pathlib.Path,
    confine: Sequence[str] = (),
    *,
    root: str = "/",
    modes: str = "core, kmsg, counter",
) -> Iterator[ConfinedAgent]:
    """An agent that has just been started; nothing of it is left at the end."""
    agent = ConfinedAgent(folder, confine, root, modes)
    try:
        yield agent
    finally:
        if agent.process.poll() is None:
            agent.process.kill()
        agent.process.wait()


def _records(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    text = path.read_text() if path.exists() else ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            continue  # it is being written
        for resource in json.loads(line).get("resourceLogs", []):
            for scope in resource["scopeLogs"]:
                for record in scope["logRecords"]:
                    yield {pair["key"]: _value(pair["value"]) for pair in record["attributes"]}


def _value(value: dict[str, Any]) -> Any:
    (kind, content), *_ = value.items()
    return int(content) if kind == "intValue" else content
