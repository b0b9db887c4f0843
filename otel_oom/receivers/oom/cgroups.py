"""Reads the memory controller's files, of cgroup v1 or v2, whichever the host uses.

A cgroup is named by its path below the mount (`/` is the root) and known to the kernel side by
the inode of its directory. Everything here is best effort: a cgroup can go while it is read.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator

from otel_oom.pipeline import mounts

V1, V2 = 1, 2

_READ_BYTES = 65536


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """A cgroup's own OOM kills, as the kernel counts them."""

    path: str
    kills: int


@dataclasses.dataclass(frozen=True, slots=True)
class Hierarchy:
    """The memory controller's mount. `version` is 1 or 2; 0 if there is none to be seen."""

    version: int
    mount: str

    def read(self, path: str, name: str) -> str:
        """The text of a cgroup's file; `OSError` when it cannot be read."""
        return _read(f"{self.mount}{path}/{name}")

    def counts(self) -> dict[int, Count]:
        """The own kills of every cgroup that has any, by inode."""
        found = {}
        for directory, relative in self._walk():
            kills = self._own_kills(directory)
            inode = _inode(directory) if kills else 0
            if inode:
                found[inode] = Count(_readable(relative), kills)
        return found

    def own_kills(self, path: str, inode: int) -> int | None:
        """The own kills of one cgroup; None if it is gone, whoever has its path now."""
        directory = self.mount + path
        return self._own_kills(directory) if _inode(directory) == inode else None

    def inode(self, path: str) -> int:
        """The kernel's id of a cgroup; 0 when it is gone."""
        return _inode(self.mount + path)

    def stat(self, path: str) -> dict[str, int]:
        """`memory.stat` as the kernel names its lines; empty when it cannot be read."""
        try:
            text = self.read(path, "memory.stat")
        except OSError:
            return {}
        pairs = (line.partition(" ") for line in text.splitlines())
        return {name: int(number) for name, _, number in pairs if number.isdigit()}

    def processes(self, path: str, limit: int) -> list[int]:
        """Up to `limit` thread-group ids in a cgroup and below."""
        found: list[int] = []
        for directory, _ in self._walk(path):
            try:
                found += map(int, _read(f"{directory}/cgroup.procs").split())
            except OSError:
                continue
            if len(found) >= limit:
                break
        return found[:limit]

    def _walk(self, path: str = "") -> Iterator[tuple[str, str]]:
        """Directories from `path` down, with their path below the mount."""
        pending = ["" if path == "/" else path]
        while pending and self.version:
            relative = pending.pop()
            directory = self.mount + relative
            yield directory, relative or "/"
            try:
                with os.scandir(directory) as entries:
                    pending += [
                        f"{relative}/{e.name}" for e in entries if e.is_dir(follow_symlinks=False)
                    ]
            except OSError:
                continue

    def _own_kills(self, directory: str) -> int:
        name = "memory.events.local" if self.version == V2 else "memory.oom_control"
        try:
            return field(_read(f"{directory}/{name}"), "oom_kill")
        except OSError:
            return 0


def find(root: pathlib.Path) -> Hierarchy:
    """The memory controller of the host whose /proc and /sys are below `root`."""
    unified = ""
    for mount in mounts.read(root):
        if mount.kind == "cgroup" and "memory" in mount.options:
            return Hierarchy(V1, mount.point)
        if mount.kind == "cgroup2":
            unified = unified or mount.point
    if unified and "memory" in _controllers(unified):
        return Hierarchy(V2, unified)
    return Hierarchy(0, "")


def field(text: str, name: str) -> int:
    """The number on the line `name number`; 0 if there is no such line."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _controllers(mount: str) -> list[str]:
    try:
        return _read(f"{mount}/cgroup.controllers").split()
    except OSError:
        return []


def _readable(path: str) -> str:
    """A path as records spell it: what is no UTF-8 is kept as backslash, x and two digits."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _inode(directory: str) -> int:
    """The kernel's id of a cgroup; 0 when it is gone."""
    try:
        return os.stat(directory).st_ino  # noqa: PTH116 - hot
    except OSError:
        return 0


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, _READ_BYTES):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "backslashreplace")
