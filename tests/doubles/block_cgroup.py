"""A temporary cgroup of the hierarchy that accounts block I/O, and commands inside it.

    with block_cgroup.temporary() as group:
        group.run("fio", ...)

On cgroup v2 it has the `io` controller. Needs root.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

_numbers = itertools.count()
_REMOVAL_S = 10.0


class Unavailable(Exception):
    """This machine gives no such cgroup; the text says what would help."""


class BlockCgroup:
    """One cgroup directory."""

    def __init__(self, path: pathlib.Path, name: str) -> None:
        self.path, self.name = path, name

    @property
    def inode(self) -> int:
        """The kernel's id of it."""
        return self.path.stat().st_ino

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end, and raise if it fails."""
        enter = 'echo $$ > "$0" && exec "$@"'
        argv = ["sh", "-c", enter, str(self.path / "cgroup.procs"), *command]
        return subprocess.run(argv, check=True, capture_output=True, text=True, **options)


@contextlib.contextmanager
def temporary() -> Iterator[BlockCgroup]:
    """A new one; gone at the end."""
    mount = _mount()
    name = f"otel-oom-block-{os.getpid()}-{next(_numbers)}"
    if (mount / "cgroup.controllers").exists():
        (mount / "cgroup.subtree_control").write_text("+io")
    path = mount / name
    path.mkdir()
    try:
        yield BlockCgroup(path, f"/{name}")
    finally:
        _remove(path)


def _mount() -> pathlib.Path:
    lines = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    for _, point, kind, options, *_ in lines:
        if kind == "cgroup" and "blkio" in options.split(","):
            return pathlib.Path(point)
    for _, point, kind, *_ in lines:
        controllers = pathlib.Path(point, "cgroup.controllers")
        if kind == "cgroup2" and "io" in controllers.read_text().split():
            return pathlib.Path(point)
    raise Unavailable("needs a cgroup that accounts block I/O: mount cgroup2, or blkio of v1")


def _remove(path: pathlib.Path) -> None:
    """Once the last process in it is gone."""
    deadline = time.monotonic() + _REMOVAL_S
    while True:
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
