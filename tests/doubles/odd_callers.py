"""Starts odd_callers.c: tasks that make storage calls as few do.

with odd_callers.started("sync", path) as task:
    task.begin()
    task.until_in(odd_callers.FDATASYNC)
    task.process.kill()
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time
from collections.abc import Iterator

from doubles import compiled

PREAD, FDATASYNC = 17, 75
"""Numbers of x86_64."""

_LONG_S = 60.0


class Task:
    """The task, which waits until it may begin."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        words = process.stdout.readline().split()
        self.tid = int(words[1])

    def begin(self) -> None:
        """Let it go on; again where it waits again."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def line(self) -> list[str]:
        """The next that it says, in words."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def until_in(self, call: int) -> None:
        """Wait until it sleeps in this system call."""
        end_s = time.monotonic() + _LONG_S
        where = pathlib.Path(f"/proc/{self.tid}/syscall")
        while where.read_text().split()[0] != str(call):
            assert time.monotonic() < end_s, f"{self.tid} did not come to call {call}"
            time.sleep(0.002)

    def finish(self) -> str:
        """Let it go on to its end; what it said since."""
        said, _ = self.process.communicate("\n", timeout=_LONG_S)
        assert self.process.returncode == 0
        return said


@contextlib.contextmanager
def started(*arguments: object, group: pathlib.Path | None = None) -> Iterator[Task]:
    """The task, ready; killed at the end if it still runs."""
    enter = 'test -z "$0" || echo $$ > "$0/cgroup.procs"; exec "$@"'
    command = [compiled.binary("odd_callers"), *map(str, arguments)]
    with subprocess.Popen(
        ["sh", "-c", enter, str(group or ""), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Task(process)
        finally:
            if process.poll() is None:
                process.kill()
