"""Which device a number is: its name, and whether it only stands on others.

Time at a device that stands on another (a loop device over a file, dm, md) is the other's time
over again, so it is counted at the lowest level only. Where that cannot be found out, a device
counts as stacked: then the same wait is told once at most.
"""

from __future__ import annotations

import fnmatch
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from otel_oom.pipeline import mounts
from otel_oom.receivers.storage import histogram

_NETWORK = ("9p", "ceph", "cifs", "nfs", "nfs4", "smb3", "virtiofs")
NOT_ON_A_DEVICE = frozenset(
    (*_NETWORK, "devtmpfs", "fuse", "hugetlbfs", "ramfs", "rootfs", "tmpfs")
)
"""Filesystems of which no block device of this host has the files."""


class Device(NamedTuple):
    """What is known of a device. `disk` is the name of the whole disk of a partition.

    `is_told_of`: whether the patterns have the device, or the disk that it is a part of.
    `sequence` is the kernel's number of the disk's content: another file of a loop device has
    another. Empty before v5.15.
    """

    name: str
    disk: str
    is_stacked: bool
    is_told_of: bool
    sequence: str = ""


class Devices:
    """Devices by their number (major << 20 | minor), as they were when first asked for."""

    def __init__(self, root: pathlib.Path, patterns: Sequence[str] = ("*",)) -> None:
        """`patterns` of the names that are told of."""
        self._root = root
        self._patterns = patterns
        self._known: dict[int, Device] = {}
        self._have_scheduler: dict[int, bool] = {}

    def get(self, device: int) -> Device | None:
        """The device, None if there is none of that number."""
        found = self._known.get(device) or self._look(device)
        if found is not None:
            self._known[device] = found
        return found

    def gone(self, devices: Iterable[int]) -> set[int]:
        """Those that are no more or are others now; `get` tells of the others from here on."""
        gone = {device for device in devices if self._is_gone(device)}
        for device in gone:
            self._known.pop(device, None)
        return gone

    def has_scheduler(self, device: int) -> bool:
        """Whether requests of the disk go through an I/O scheduler; asked once until `refresh`."""
        if device not in self._have_scheduler:
            self._have_scheduler[device] = self._reads_scheduler(device)
        return self._have_scheduler[device]

    def refresh(self) -> None:
        """Look anew at what can be changed while a device is there."""
        self._have_scheduler.clear()

    def present(self) -> list[Device]:
        """All disks that are there now, without loop devices that have no file."""
        try:
            directories = sorted((self._root / "sys/block").iterdir())
        except OSError:
            return []
        return [
            self._device(path.name, path)
            for path in directories
            if not path.name.startswith("loop") or (path / "loop").is_dir()
        ]

    def _is_gone(self, device: int) -> bool:
        directory = self._directory(device)
        known = self._known.get(device)
        if known is None or not known.sequence:
            return not os.path.lexists(directory)
        return _value(directory / "uevent", "DISKSEQ") != known.sequence

    def _directory(self, device: int) -> pathlib.Path:
        major, minor = histogram.major_minor(device)
        return self._root / f"sys/dev/block/{major}:{minor}"

    def _look(self, device: int) -> Device | None:
        directory = self._directory(device)
        name = _value(directory / "uevent", "DEVNAME")
        if not name:
            return None
        disk = pathlib.Path(os.path.realpath(directory))
        if (disk / "partition").exists():
            disk = disk.parent
        return self._device(name, disk, _value(directory / "uevent", "DISKSEQ"))

    def _device(self, name: str, disk: pathlib.Path, sequence: str = "") -> Device:
        is_told_of = any(
            fnmatch.fnmatchcase(each, pattern)
            for each in (name, disk.name)
            for pattern in self._patterns
        )
        return Device(name, disk.name, self._is_stacked(disk), is_told_of, sequence)

    def _reads_scheduler(self, device: int) -> bool:
        try:
            return "[none]" not in (self._directory(device) / "queue/scheduler").read_text()
        except OSError:
            return False

    def _is_stacked(self, disk: pathlib.Path) -> bool:
        try:
            if any((disk / "slaves").iterdir()):
                return True
            backing = os.fsdecode((disk / "loop/backing_file").read_bytes()).rstrip("\n")
        except OSError:
            return False  # it is no loop device, or has no file
        return self._is_on_a_device(mounts.below(self._root, backing))

    def _is_on_a_device(self, path: str) -> bool:
        """Whether a block device of this host has the file; true if that is not known."""
        inside = [
            mount
            for mount in mounts.read(self._root)
            if path == mount.point or path.startswith(f"{mount.point.rstrip('/')}/")
        ]
        if not inside:
            return True
        kind = max(reversed(inside), key=lambda mount: len(mount.point)).kind
        return kind.partition(".")[0] not in NOT_ON_A_DEVICE


def _value(path: pathlib.Path, key: str) -> str:
    """The value on the line `key=value` of a file; empty if there is none."""
    try:
        lines = path.read_text(errors="backslashreplace").splitlines()
    except OSError:
        return ""
    return next((line[len(key) + 1 :] for line in lines if line.startswith(f"{key}=")), "")
