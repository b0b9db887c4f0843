"""A temporary cgroup that limits I/O or processor time, v1 or v2, whichever the machine has.

    with control_group.temporary("blkio") as group:
        group.limit_io(device.major, device.minor, write_iops=10)
        group.run(...)

Memory has a double of its own, memory_cgroup. Needs root.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import time
from collections.abc import Iterator

_V2_NAMES = {"blkio": "io", "cpu": "cpu"}
_V2_IO_KEYS = {
    "read_bps": "rbps",
    "write_bps": "wbps",
    "read_iops": "riops",
    "write_iops": "wiops",
}
_REMOVAL_S = 10.0
_POLL_S = 0.01
_numbers = itertools.count()


class Unavailable(Exception):
    """This machine has no such controller; the text says what would help."""


class ControlGroup:
    """One cgroup directory of one controller."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.version = 2 if (path / "cgroup.controllers").exists() else 1

    @property
    def inode(self) -> int:
        """The kernel's id of the cgroup."""
        return self.path.stat().st_ino

    @property
    def procs(self) -> pathlib.Path:
        """The file that takes the processes to put inside."""
        return self.path / "cgroup.procs"

    def limit_io(self, major: int, minor: int, **limits: int) -> None:
        """`read_bps`, `write_bps`, `read_iops`, `write_iops` of one device."""
        for key, limit in limits.items():
            if self.version == 2:
                self._write("io.max", f"{major}:{minor} {_V2_IO_KEYS[key]}={limit}")
            else:
                self._write(f"blkio.throttle.{key}_device", f"{major}:{minor} {limit}")

    def limit_cpu(self, quota_us: int, period_us: int) -> None:
        """So much processor time in each period."""
        if self.version == 2:
            self._write("cpu.max", f"{quota_us} {period_us}")
        else:
            self._write("cpu.cfs_period_us", str(period_us))
            self._write("cpu.cfs_quota_us", str(quota_us))

    def _write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def remove(self) -> None:
        """Remove it when its last process, which whoever started it must end, is gone."""
        deadline = time.monotonic() + _REMOVAL_S
        while True:
            try:
                return self.path.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)


@contextlib.contextmanager
def temporary(controller: str) -> Iterator[ControlGroup]:
    """An empty cgroup of `blkio` or `cpu`. Raises `Unavailable`."""
    root = _hierarchy(controller)
    path = root / f"otel-oom-{controller}-{os.getpid()}-{next(_numbers)}"
    try:
        if (root / "cgroup.controllers").exists():
            (root / "cgroup.subtree_control").write_text(f"+{_V2_NAMES[controller]}")
        path.mkdir()
    except OSError as error:
        raise Unavailable(f"cannot make a {controller} cgroup ({error}): run as root") from error
    group = ControlGroup(path)
    try:
        yield group
    finally:
        group.remove()


def _hierarchy(controller: str) -> pathlib.Path:
    """Where the controller is mounted: its v1 hierarchy, else the v2 one."""
    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    for _, where, kind, options, *_ in mounts:
        path = pathlib.Path(where)
        if kind == "cgroup" and controller in options.split(","):
            return path
        if kind == "cgroup2":
            offered = (path / "cgroup.controllers").read_text().split()
            if _V2_NAMES[controller] in offered:
                return path
    raise Unavailable(f"no {controller} controller is mounted: mount cgroup2, or cgroup v1's")
