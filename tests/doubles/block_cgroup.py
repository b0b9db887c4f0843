"""Temporary cgroups that the block layer knows, v1 `blkio` or v2 `io`.

with block_cgroup.temporary() as group:
    group.run(["dd", ...])
    assert key.cgroup_id == group.id
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import uuid
from collections.abc import Iterator

_V1 = pathlib.Path("/sys/fs/cgroup/blkio")
_V2 = pathlib.Path("/sys/fs/cgroup")


class BlockCgroup:
    """One cgroup; its `id` is the inode of its directory."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.id = path.stat().st_ino

    def enter(self, pid: int | None = None) -> None:
        """Move a process into it, by default this one."""
        (self.path / "cgroup.procs").write_text(str(pid or os.getpid()))

    @property
    def name(self) -> str:
        """Its path below the mount, as `process.linux.cgroup` spells it."""
        return f"/{self.path.name}"

    def run(self, command: list[str]) -> str:
        """Run a command in it to its end; what it printed.

        A shell enters the cgroup first: `preexec_fn` is unsafe among threads.
        """
        enter = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.path / "cgroup.procs")]
        return subprocess.run([*enter, *command], check=True, capture_output=True, text=True).stdout


def hierarchy() -> pathlib.Path | None:
    """Where the block layer's cgroups are; None if they are nowhere."""
    if (_V1 / "cgroup.procs").exists():
        return _V1
    controllers = _V2 / "cgroup.subtree_control"
    if controllers.exists() and "io" in (_V2 / "cgroup.controllers").read_text().split():
        controllers.write_text("+io")
        return _V2
    return None


@contextlib.contextmanager
def temporary(count: int = 1) -> Iterator[list[BlockCgroup]]:
    """New cgroups at the top of the hierarchy; this process is put back, and they are removed."""
    top = hierarchy()
    assert top is not None
    name = f"otel-oom-{uuid.uuid4().hex[:8]}"
    paths = [top / f"{name}-{number}" for number in range(count)]
    for path in paths:
        path.mkdir()
    own = _own(top)
    try:
        yield [BlockCgroup(path) for path in paths]
    finally:
        (own / "cgroup.procs").write_text(str(os.getpid()))
        for path in paths:
            path.rmdir()


def _own(top: pathlib.Path) -> pathlib.Path:
    """This process's cgroup."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if (top == _V1 and "blkio" in controllers.split(",")) or (top == _V2 and number == "0"):
            return top / path.lstrip("/")
    return top
