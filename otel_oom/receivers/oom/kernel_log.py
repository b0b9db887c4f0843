"""Reads /dev/kmsg: records in the kernel's order, and how many were overwritten before that.

To open it takes CAP_SYSLOG, or kernel.dmesg_restrict=0 and a file mode that lets the user in; to
read what is open takes nothing. So it is opened while the agent has its rights, also as a second
way that is not in use yet.
"""

from __future__ import annotations

import os
import pathlib
import stat
import time

from otel_oom import errors
from otel_oom.receivers.oom import log_lines
from otel_oom.receivers.oom.log_lines import LogRecord

_KMSG_DEVICE = os.makedev(1, 11)
_LONGEST_RECORD = 8192
_DRIFT_PER_S = 500e-6  # of the kernel's own clock against Unix time: adjtime(2) goes no further


class KernelLog:
    """An open log, from its end on. `overwritten` counts records that came and were not read."""

    def __init__(self, root: pathlib.Path = pathlib.Path("/")) -> None:
        """Open it below `root`, else where this process has it; `ProbeUnsupported` says why not."""
        self.fd = _open(root)
        self.overwritten = 0
        self._next: int | None = None
        self._offset_ns: int | None = None
        self._offset_s = 0.0
        self.to_end()

    def to_end(self) -> None:
        """Leave what is there unread, as read elsewhere."""
        os.lseek(self.fd, 0, os.SEEK_END)
        self._next = None

    def read(self) -> LogRecord | None:
        """The next record; None if there is none yet, `BadRecord` if it is not understood."""
        while True:
            try:
                raw = os.read(self.fd, _LONGEST_RECORD)
            except BlockingIOError:
                return None
            except BrokenPipeError:  # overwritten; the next read has what is left
                continue
            if not raw:
                return None  # no log any more: `is_open` tells
            return self._numbered(log_lines.decode(raw))

    def is_open(self) -> bool:
        """Whether the file is still the kernel's log: something else may have its number."""
        try:
            return os.fstat(self.fd).st_rdev == _KMSG_DEVICE
        except OSError:
            return False

    def unix_ns(self, time_us: int) -> int:
        """When a record was written, as far as the records that were read can tell."""
        return time_us * 1000 + (self._offset_ns or 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)

    def _observe(self, time_us: int) -> None:
        """Learn of the kernel's own clock, which is none of ours.

        What is known is that a record is older than its reading. So the least difference of late
        is the best, but for drift.
        """
        now_s = time.monotonic()
        seen_ns = time.time_ns() - time_us * 1000
        if self._offset_ns is not None:
            drifted_ns = (now_s - self._offset_s) * _DRIFT_PER_S * 1e9
            seen_ns = min(seen_ns, self._offset_ns + round(drifted_ns))
        self._offset_ns, self._offset_s = seen_ns, now_s

    def _numbered(self, record: LogRecord) -> LogRecord:
        self._observe(record.time_us)
        if self._next is not None:
            self.overwritten += record.sequence - self._next
        self._next = record.sequence + 1
        return record


def _open(root: pathlib.Path) -> int:
    path = next((p for p in (root / "dev/kmsg", pathlib.Path("/dev/kmsg")) if p.exists()), None)
    if path is None:
        raise errors.ProbeUnsupported(
            "/dev/kmsg is not there: give the container the device, read-only"
        )
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise errors.ProbeUnsupported(
            f"{path} cannot be opened ({error.strerror}): run as root, or give the process "
            "CAP_SYSLOG, or set kernel.dmesg_restrict=0"
        ) from error
    if stat.S_ISCHR(os.fstat(fd).st_mode) and os.fstat(fd).st_rdev == _KMSG_DEVICE:
        return fd
    os.close(fd)
    raise errors.ProbeUnsupported(
        f"{path} is not the kernel's log (character device 1:11): give the container the host's"
    )
