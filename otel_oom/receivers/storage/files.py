"""The path of an operation's file, if the process still has the file that it was about.

The kernel side tells inode and device. A path is what a descriptor has at the moment of reading, so
it counts only if that descriptor is still of this very inode. It is spelled as the process
sees it, which in a container is below the container's root.
"""

from __future__ import annotations

import os
import pathlib
import stat

from otel_oom.receivers.storage.records import Operation

NO_DESCRIPTOR = "the call names no descriptor"
NOT_TOLD = "nothing tells which of the files that the call submitted for"
GONE = "the process's descriptor is not, or no longer, of this inode and device"

_MINOR_BITS = 20
_DELETED = " (deleted)"


class Files:
    """Paths of open files, below a /proc."""

    def __init__(self, root: pathlib.Path) -> None:
        """`root`: where the host's /proc is."""
        self._proc = str(root / "proc")

    def path(self, operation: Operation) -> str | None:
        """The path; None if the descriptor is no longer of that file."""
        file = operation.file
        link = f"{self._proc}/{operation.raw.tgid}/fd/{file.fd}"
        try:
            found = os.stat(link)  # noqa: PTH116 - hot
            if found.st_ino != file.inode or _device(found) != file.device:
                return None
            path = os.readlink(link)  # noqa: PTH115
        except OSError:
            return None
        if not found.st_nlink:
            path = path.removesuffix(_DELETED)
        return _readable(path)


def _device(found: os.stat_result) -> int:
    """The kernel's number of the file's filesystem, or of the block device that it is."""
    device = found.st_rdev if stat.S_ISBLK(found.st_mode) else found.st_dev
    return os.major(device) << _MINOR_BITS | os.minor(device)


def _readable(path: str) -> str:
    """What is no UTF-8 is kept as backslash, x and two digits."""
    if path.isascii():
        return path
    return os.fsencode(path).decode("utf-8", "backslashreplace")
