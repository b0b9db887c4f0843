"""Starts operations.c: a task that does one storage operation again and again, and times it.

    with operations.started("fsync", path, count=20, bytes_=4096) as task:
        # It is ready and waits: watch task.tid.
        durations_ns = [operation.duration_ns for operation in task.finish()]

The program is compiled at first use.
"""

from __future__ import annotations

import contextlib
import pathlib
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from doubles import compiled, memory_cgroup

FOREVER = 0


class Operation(NamedTuple):
    """One system call, by the clock CLOCK_MONOTONIC."""

    tid: int
    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


class Task:
    """A task that is ready to begin."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        words = self._stdout.readline().split()
        if not words:
            raise OSError(f"operations ended with {process.wait()}")
        self.tid = int(words[1])

    def begin(self) -> None:
        """Let it go on by itself."""
        self._stdin.write("\n")
        self._stdin.flush()

    def finish(self, timeout_s: float = 300) -> list[Operation]:
        """Let it begin, and wait for all that it did."""
        told, _ = self._process.communicate("\n", timeout=timeout_s)
        if self._process.returncode == -signal.SIGKILL:
            raise memory_cgroup.KilledAnother("the task was killed beside the victim")
        if self._process.returncode:
            raise OSError(f"operations ended with {self._process.returncode}")
        return [Operation(self.tid, *map(int, line.split())) for line in told.splitlines()]


@contextlib.contextmanager
def started(
    name: str,
    path: pathlib.Path,
    *,
    count: int = FOREVER,
    bytes_: int = 4096,
    pause_ms: int = 0,
    groups: Sequence[pathlib.Path] = (),
    prefix: Sequence[str] = (),
) -> Iterator[Task]:
    """The task, ready; killed at the end if it still runs.

    `groups` are `cgroup.procs` files that it enters first; `prefix` is a command that runs it
    (`taskset`, `ionice`, ...).
    """
    operation = [str(compiled.binary("operations")), name, str(path)]
    numbers = [str(count), str(bytes_), str(pause_ms)]
    enter = 'for group in $GROUPS_; do echo $$ > "$group"; done; exec "$@"'
    command = ["sh", "-c", enter, "sh", *prefix, *operation, *numbers]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GROUPS_": " ".join(map(str, groups))},
    )
    with process:
        try:
            yield Task(process)
        finally:
            if process.poll() is None:
                process.kill()
