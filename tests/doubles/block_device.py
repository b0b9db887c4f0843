"""Loop devices, file systems on them and their queues' settings, put back at the end.

    with block_device.loop(slow.path) as device, device.set_queue("scheduler", "bfq"):
        block_device.make_filesystem(device, "ext4")
        with block_device.mounted(device, folder):
            ...

Needs root.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

_MKFS = {
    # No lazy initialisation: it would write in the background for minutes.
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "ext4-nojournal": ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=0"],
    # Groups of 8 MiB, each with its own bitmaps.
    "ext4-groups": [
        *("mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "^flex_bg", "-E", "lazy_itable_init=0"),
    ],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
FILESYSTEMS = tuple(_MKFS)
"""What `make_filesystem` makes; ext4 with a journal where it does not say otherwise."""

_BUSY_S = 10.0
_POLL_S = 0.01


class Device:
    """A block device in /dev."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.name = path.name
        number = path.stat().st_rdev
        self.major, self.minor = os.major(number), os.minor(number)

    @property
    def number(self) -> int:
        """The kernel's own dev_t, as trace events and BPF programs see it."""
        return self.major << 20 | self.minor

    def queue(self, name: str) -> str:
        """A setting of its queue: `scheduler`, `nr_requests`, `iosched/...`."""
        return _chosen(self._queue(name))

    def set_queue(self, name: str, value: object) -> AbstractContextManager[None]:
        """Set it, and put the old one back at the end."""
        return _set(self._queue(name), value)

    def set_writeback(self, name: str, value: object) -> AbstractContextManager[None]:
        """As `set_queue`, of its write-back: `strict_limit`, `max_bytes`, ... (Linux 6.2)."""
        return _set(pathlib.Path("/sys/class/bdi", f"{self.major}:{self.minor}", name), value)

    def _queue(self, name: str) -> pathlib.Path:
        return pathlib.Path("/sys/class/block", self.name, "queue", name)


@contextlib.contextmanager
def sparse_file(size_bytes: int) -> Iterator[pathlib.Path]:
    """A file of holes, in memory where the machine has /dev/shm."""
    shared = pathlib.Path("/dev/shm")
    where = shared if shared.is_dir() else None
    with tempfile.NamedTemporaryFile(prefix="disk-", dir=where) as made:
        made.truncate(size_bytes)
        yield pathlib.Path(made.name)


@contextlib.contextmanager
def loop(backing: pathlib.Path, *, direct_io: bool = False) -> Iterator[Device]:
    """A loop device over the file. Without direct I/O it serves a cgroup's requests in turn."""
    command = ["losetup", "--find", "--show", f"--direct-io={'on' if direct_io else 'off'}"]
    told = subprocess.check_output([*command, str(backing)], text=True)
    device = Device(pathlib.Path(told.strip()))
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device.path], check=True)
        _wait_detached(device, backing)


def make_filesystem(device: Device, kind: str) -> None:
    """One of FILESYSTEMS on the whole device."""
    subprocess.run([*_MKFS[kind], device.path], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def mounted(device: Device, folder: pathlib.Path, options: str = "noatime") -> Iterator[None]:
    """The device's file system at the folder."""
    subprocess.run(["mount", "-o", options, device.path, folder], check=True)
    try:
        yield
    finally:
        _unmount(folder)


def _chosen(setting: pathlib.Path) -> str:
    """What it says; the word in brackets where it lists what can be had."""
    text = setting.read_text().strip()
    return text.split("[", 1)[1].split("]", 1)[0] if "[" in text else text


@contextlib.contextmanager
def _set(setting: pathlib.Path, value: object) -> Iterator[None]:
    before = _chosen(setting)
    setting.write_text(str(value))
    try:
        yield
    finally:
        setting.write_text(before)


def _unmount(folder: pathlib.Path) -> None:
    """At once, or when the last user that was killed is gone."""
    deadline = time.monotonic() + _BUSY_S
    while subprocess.run(["umount", folder], stderr=subprocess.DEVNULL, check=False).returncode:
        if time.monotonic() > deadline:
            subprocess.run(["umount", "--lazy", folder], check=True)
            raise TimeoutError(f"{folder} is still in use; it goes when its last user does")
        time.sleep(_POLL_S)


def _wait_detached(device: Device, backing: pathlib.Path) -> None:
    """Until the device lets its file go.

    Where somebody's new mount namespace has a copy of our mount, it goes by itself later.
    """
    held = pathlib.Path("/sys/class/block", device.name, "loop/backing_file")
    deadline = time.monotonic() + _BUSY_S
    with contextlib.suppress(OSError):
        while held.read_text().strip() == str(backing) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
