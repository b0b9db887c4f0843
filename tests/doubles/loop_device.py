"""A loop device of its own for a test, and the kernel's own counts of it.

    with loop_device.attached(tmp_path) as loop:
        loop.read(4096)
        assert loop.stat().reads == 1

It lies over a sparse file, so its contents are zeros. Needs root and losetup.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

MIB = 1024 * 1024
_LISTED = re.compile(r"/dev/loop\d+")


class Stat(NamedTuple):
    """Fields of /sys/block/*/stat (kernel Documentation/block/stat.rst)."""

    reads: int
    read_merges: int
    read_sectors: int
    read_ms: int
    writes: int
    write_merges: int
    write_sectors: int
    write_ms: int
    in_flight: int
    io_ms: int
    queue_ms: int
    discards: int
    discard_merges: int
    discard_sectors: int
    discard_ms: int
    flushes: int
    flush_ms: int

    def since(self, before: Stat) -> Stat:
        return Stat(*(new - old for new, old in zip(self, before, strict=True)))


class Disk:
    """Any whole disk by its device node, e.g. /dev/nvme0n1."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.sysfs = pathlib.Path("/sys/block") / path.name
        number = path.stat().st_rdev
        self.device = os.major(number) << 20 | os.minor(number)

    def stat(self) -> Stat:
        words = (self.sysfs / "stat").read_text().split()
        return Stat(*map(int, words[: len(Stat._fields)]))

    @contextlib.contextmanager
    def queue(self, **settings: int | str) -> Iterator[None]:
        """Settings of /sys/block/*/queue for a while."""
        files = {self.sysfs / "queue" / name: value for name, value in settings.items()}
        before = {file: file.read_text().strip() for file in files}
        for file, value in files.items():
            file.write_text(str(value))
        yield
        for file, text in before.items():
            file.write_text(text)

    def read(self, size: int, count: int = 1, at: int = 0) -> None:
        """`count` direct reads of `size` bytes, one after the other."""
        with self._open(os.O_RDONLY) as fd, mmap.mmap(-1, size) as buffer:
            for number in range(count):
                assert os.preadv(fd, [buffer], at + number * size) == size

    def write(self, size: int, count: int = 1, at: int = 0, flags: int = 0) -> None:
        """`count` direct writes of `size` bytes, one after the other."""
        with self._open(os.O_WRONLY | flags) as fd, mmap.mmap(-1, size) as buffer:
            for number in range(count):
                assert os.pwritev(fd, [buffer], at + number * size) == size

    @contextlib.contextmanager
    def _open(self, flags: int) -> Iterator[int]:
        fd = os.open(self.path, flags | os.O_DIRECT)
        yield fd
        os.close(fd)


class LoopDevice(Disk):
    """An attached device, over `file`."""

    def __init__(self, path: pathlib.Path, file: pathlib.Path) -> None:
        super().__init__(path)
        self.file = file

    def detach(self) -> None:
        """As `losetup --detach`: at once, or when its last user closes it."""
        subprocess.run(["losetup", "--detach", self.path], check=True)


def unavailable() -> str | None:
    """Why there can be none, with what would help."""
    if os.geteuid() != 0:
        return "needs root to attach a loop device: run `make test` as root"
    if shutil.which("losetup") is None:
        return "needs losetup: apt-get install mount"
    if not pathlib.Path("/dev/loop-control").exists():
        return "needs loop devices: a kernel with CONFIG_BLK_DEV_LOOP, and /dev/loop-control"
    return None


@contextlib.contextmanager
def attached(folder: pathlib.Path, mib: int = 64, *options: str) -> Iterator[LoopDevice]:
    """A device over a new sparse file in the folder."""
    file = folder / "loop.img"
    with file.open("wb") as new:
        new.truncate(mib * MIB)
    command = ["losetup", "--find", "--show", *options, str(file)]
    path = pathlib.Path(subprocess.check_output(command, text=True).strip())
    try:
        yield LoopDevice(path, file)
    finally:
        listed = subprocess.check_output(["losetup", "--associated", file], text=True)
        for left in _LISTED.findall(listed):
            subprocess.run(["losetup", "--detach", left], check=True)


@contextlib.contextmanager
def ext4(loop: LoopDevice, folder: pathlib.Path, *options: str) -> Iterator[pathlib.Path]:
    """An ext4 on the device, mounted; `options` are mkfs.ext4's."""
    mount = folder / "mount"
    mount.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, loop.path], check=True)
    subprocess.run(["mount", loop.path, mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)
