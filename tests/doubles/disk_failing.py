"""A real ext4 on a disk that fails when it is told to.

    with disk_failing.ext4(tmp_path) as disk:
        disk.fail()                  # each write and flush is an I/O error from now on
        ...
        with disk.as_found() as folder: ...    # what the disk has, whatever the page cache says

A loop device over a file of slow_fuse. Needs root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

from doubles import slow_fuse

_MIB = 1 << 20
_END_S = 10.0


class Disk:
    """The disk, and the folder where it is mounted."""

    def __init__(self, slow: slow_fuse.SlowFile, device: str, folder: pathlib.Path) -> None:
        self.folder = folder
        self._slow = slow
        self._device = device

    def fail(self, kinds: tuple[str, ...] = ("write", "fsync")) -> None:
        """Let these requests fail, and no others."""
        for kind in ("write", "fsync"):
            self._slow.fail(kind, errno.EIO if kind in kinds else 0)

    def heal(self) -> None:
        """Let it work again; what it missed it has not."""
        self.fail(())

    def is_read_only(self) -> bool:
        """Whether the kernel gave up to write to it."""
        try:
            os.close(os.open(self.folder, os.O_TMPFILE | os.O_WRONLY, 0o600))
        except OSError as error:
            return error.errno == errno.EROFS
        return False

    @contextlib.contextmanager
    def as_found(self) -> Iterator[pathlib.Path]:
        """What is on the disk itself, as after a loss of power: a copy of it, mounted."""
        with tempfile.TemporaryDirectory(prefix="disk-") as name:
            image, folder = pathlib.Path(name) / "image", pathlib.Path(name) / "found"
            shutil.copy(self._slow.path.with_name("data"), image)
            folder.mkdir()
            subprocess.run(["fsck.ext4", "-y", image], capture_output=True, check=False)
            subprocess.run(["mount", "-o", "loop", image, folder], check=True)
            try:
                yield folder
            finally:
                subprocess.run(["umount", folder], check=True)

    def mount(self) -> None:
        """Mount it, as an operator does after a check."""
        subprocess.run(["mount", self._device, self.folder], check=True)

    def unmount(self) -> None:
        """Also if its files are open: they lead to the old mount from then on."""
        subprocess.run(["umount", "--lazy", self.folder], check=True)

    def check(self) -> None:
        """Let fsck repair what it can (exit status 1: errors were corrected)."""
        end_s = time.monotonic() + _END_S  # a lazy unmount ends a moment later
        while True:
            command = ["fsck.ext4", "-f", "-y", self._device]
            done = subprocess.run(command, capture_output=True, check=False)
            if b"in use" not in done.stdout + done.stderr or time.monotonic() > end_s:
                break
            time.sleep(0.05)
        assert done.returncode in (0, 1), done.stdout


@contextlib.contextmanager
def ext4(folder: pathlib.Path, *options: str, mib: int = 32) -> Iterator[Disk]:
    """A new file system; `options` are mkfs.ext4's."""
    mounted = folder / "mounted"
    mounted.mkdir()
    with slow_fuse.file(mib * _MIB) as slow, _attached(slow.path) as device:
        subprocess.run(["mkfs.ext4", "-q", "-F", *options, device], check=True)
        disk = Disk(slow, device, mounted)
        disk.mount()
        try:
            yield disk
        finally:
            disk.heal()
            while os.path.ismount(mounted):
                disk.unmount()


@contextlib.contextmanager
def _attached(file: pathlib.Path) -> Iterator[str]:
    command = ["losetup", "--find", "--show", "--direct-io=on", str(file)]
    device = subprocess.check_output(command, text=True).strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
