"""A file that lines are appended to: whole or not at all, with rotation.

Every call blocks; it is for a thread of the loop's pool.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import errno
import os
import threading
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RotationConfig:
    """`rotation`, with the names and defaults of the collector's file exporter."""

    max_megabytes: int = 100
    """Size in MiB at which the file is renamed and a new one begun, default 100."""

    max_days: int = 0
    """Age in days at which a renamed file is removed, default 0: never."""

    max_backups: int = 100
    """Renamed files that are kept, default 100; 0 keeps all."""

    localtime: bool = False
    """Whether the time in a renamed file's name is local, default false: UTC."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.max_megabytes <= 0:
            raise ValueError("'max_megabytes' must be greater than 0")
        if self.max_days < 0 or self.max_backups < 0:
            raise ValueError("'max_days' and 'max_backups' must not be negative")


class LineFile:
    """An open file. Safe for several threads; every method raises `OSError` as it comes."""

    def __init__(self, path: Path, *, append: bool, rotation: RotationConfig | None) -> None:
        self._path = path
        self._rotation = rotation
        self._lock = threading.Lock()
        self._descriptor = _open(path, os.O_APPEND if append else os.O_APPEND | os.O_TRUNC)
        self._size = os.fstat(self._descriptor).st_size
        self._end_half_line()

    def write(self, line: bytes) -> None:
        """Append a line and its end by one write; if that falls short, nothing of it is kept."""
        with self._lock:
            self._rotate(len(line) + 1)
            written = os.write(self._descriptor, line + b"\n")
            if written <= len(line):
                os.ftruncate(self._descriptor, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += written

    def sync(self) -> None:
        """Wait until the disk has what was written."""
        with self._lock:
            _sync(self._descriptor)

    def close(self) -> None:
        """Sync and close; more than once is fine."""
        with self._lock:
            if self._descriptor >= 0:
                descriptor, self._descriptor = self._descriptor, -1
                try:
                    _sync(descriptor)
                finally:
                    os.close(descriptor)

    def _end_half_line(self) -> None:
        """Close off a line that another program, or a power loss, left half written."""
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._size += os.write(self._descriptor, b"\n")

    def _rotate(self, more_bytes: int) -> None:
        """Rename the file if it would grow too large, and remove backups that are too many."""
        limit = self._rotation.max_megabytes * 1024 * 1024 if self._rotation else 0
        if not self._rotation or not self._size or self._size + more_bytes <= limit:
            return
        _sync(self._descriptor)
        self._path.rename(self._backup_path(self._rotation.localtime))
        fresh = _open(self._path, os.O_APPEND)
        os.close(self._descriptor)
        self._descriptor, self._size = fresh, 0
        for backup in self._surplus(self._rotation):
            backup.unlink(missing_ok=True)

    def _backup_path(self, localtime: bool) -> Path:
        """`name-2026-01-31T23-59-59.123.ext`, as the collector names it."""
        zone = None if localtime else dt.UTC
        stamp_ns = time.time_ns()
        while True:
            when = dt.datetime.fromtimestamp(stamp_ns // 1_000_000 / 1000, zone)
            text = when.strftime("%Y-%m-%dT%H-%M-%S.") + f"{when.microsecond // 1000:03d}"
            path = self._path.with_name(f"{self._path.stem}-{text}{self._path.suffix}")
            if not path.exists():
                return path
            stamp_ns += 1_000_000

    def _surplus(self, rotation: RotationConfig) -> list[Path]:
        pattern = f"{_escape(self._path.stem)}-????-??-??T??-??-??.???{_escape(self._path.suffix)}"
        backups = sorted(self._path.parent.glob(pattern), reverse=True)
        surplus = set(backups[rotation.max_backups :]) if rotation.max_backups else set()
        if rotation.max_days:
            oldest_s = time.time() - rotation.max_days * 86_400
            surplus |= {backup for backup in backups if backup.stat().st_mtime < oldest_s}
        return sorted(surplus)


def _open(path: Path, flags: int) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)


def _sync(descriptor: int) -> None:
    """Wait for the disk; what is no file on a disk, as a terminal, has nothing to wait for."""
    try:
        os.fsync(descriptor)
    except OSError as failure:
        if failure.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise


def _escape(text: str) -> str:
    """Text as it is in a glob pattern."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)
