"""Which cgroup an id is: the kernel side knows a cgroup by the inode of its directory.

The path is had from the id itself (`open_by_handle_at`, which needs CAP_DAC_READ_SEARCH), else by
looking for the inode in the tree, once a collection at most. A cgroup's id is never used again,
so what was found stays true; the path of a cgroup that is gone is kept while there is room,
because its last writes may still be on their way.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import pathlib
from collections.abc import Collection, Iterator

from otel_oom.pipeline import mounts

NOBODY_ID, ROOT_ID = 0, 1
"""What is accounted to no cgroup, as flushes are; and the root of the hierarchy."""

_FILEID_KERNFS = 0xFE
_DELETED = " (deleted)"
_MOST_KEPT = 16384


class _Handle(ctypes.Structure):
    """`struct file_handle` of kernfs: its content is the cgroup's id."""

    _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("id", ctypes.c_uint64))


class Workloads:
    """Paths of the cgroups of block I/O, below the mount of their hierarchy; `/` is the root."""

    def __init__(self, root: pathlib.Path) -> None:
        """`root`: where the host's /proc and /sys are."""
        self.version, self._mount = find(root)
        self._paths: collections.OrderedDict[int, str] = collections.OrderedDict()
        self._unknown: set[int] = set()
        self._tree: dict[int, str] | None = None
        self._open = ctypes.CDLL(None).open_by_handle_at
        self._fd = _directory(self._mount)
        self._has_handles = self._fd >= 0 and self._by_handle(os.fstat(self._fd).st_ino) is not None

    def describe(self) -> str:
        """Where paths come from, on one line."""
        if not self.version:
            return "no cgroups seen"
        how = "by handle" if self._has_handles else "by looking through the tree"
        return f"cgroup v{self.version} at {self._mount}, {how}"

    def refresh(self) -> None:
        """Let ids that were not found be looked for again."""
        self._unknown.clear()
        self._tree = None

    def path(self, cgroup_id: int) -> str | None:
        """The path of a cgroup, also of one that is gone; None if it was gone before we looked."""
        found = "" if cgroup_id == ROOT_ID else self._find(cgroup_id)
        return None if found is None else _readable(found or "/")

    def gone(self, cgroup_ids: Collection[int]) -> set[int]:
        """Those of these cgroups that are no more; none while there is no hierarchy to look at."""
        if self._fd < 0:
            return set()
        return {id_ for id_ in cgroup_ids if id_ > ROOT_ID and not self._is_there(id_)}

    def close(self) -> None:
        """Let go of the mount."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _find(self, cgroup_id: int) -> str | None:
        """The path below the mount, as the filesystem spells it."""
        found = self._paths.get(cgroup_id)
        if found is not None or cgroup_id in self._unknown or cgroup_id == NOBODY_ID:
            return found
        found = self._by_handle(cgroup_id) if self._has_handles else self._by_scan(cgroup_id)
        if found is None:
            self._unknown.add(cgroup_id)
        return found

    def _is_there(self, cgroup_id: int) -> bool:
        path = self._find(cgroup_id)
        if path is None:
            return False
        with contextlib.suppress(OSError):
            if os.stat(self._mount + path).st_ino == cgroup_id:  # noqa: PTH116 - hot
                return True
        return self._has_handles and self._by_handle(cgroup_id) is not None  # it was renamed

    def _by_handle(self, cgroup_id: int) -> str | None:
        handle = _Handle(ctypes.sizeof(ctypes.c_uint64), _FILEID_KERNFS, cgroup_id)
        fd = self._open(self._fd, ctypes.byref(handle), os.O_PATH | os.O_CLOEXEC)
        if fd < 0:
            return None
        try:
            seen = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - hot
        finally:
            os.close(fd)
        if seen != self._mount and not seen.startswith(f"{self._mount}/"):
            return None
        if seen.endswith(_DELETED):
            return None
        return self._keep(cgroup_id, seen.removeprefix(self._mount))

    def _by_scan(self, cgroup_id: int) -> str | None:
        """Look through the tree, unless that was done since `refresh`."""
        if self._tree is None:
            self._tree = dict(self._walk())
        found = self._tree.get(cgroup_id)
        return None if found is None else self._keep(cgroup_id, found)

    def _walk(self) -> Iterator[tuple[int, str]]:
        pending = [""] if self._mount else []
        while pending:
            relative = pending.pop()
            with contextlib.suppress(OSError), os.scandir(self._mount + relative) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        below = f"{relative}/{entry.name}"
                        pending.append(below)
                        yield entry.inode(), below

    def _keep(self, cgroup_id: int, path: str) -> str:
        self._paths[cgroup_id] = path
        self._paths.move_to_end(cgroup_id)
        if len(self._paths) > _MOST_KEPT:
            self._paths.popitem(last=False)
        return path


def _directory(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if path else -1
    except OSError:
        return -1


def _readable(path: str) -> str:
    """What is no UTF-8 is kept as backslash, x and two digits."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def find(root: pathlib.Path) -> tuple[int, str]:
    """Version and mount of the hierarchy that has block I/O; (0, "") if there is none."""
    unified = ""
    for mount in mounts.read(root):
        if mount.kind == "cgroup" and "blkio" in mount.options:
            return 1, mount.point
        if mount.kind == "cgroup2":
            unified = unified or mount.point
    return (2, unified) if unified else (0, "")
