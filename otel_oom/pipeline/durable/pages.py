"""The pages of a damaged database, each in its last version that the disk still has.

SQLite's own view ends with the first contradiction. Here nothing is concluded: the log's images lie
over the file's, a block that cannot be read is empty, and whoever reads the rows must judge them.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import Self

from otel_oom.pipeline.durable import wal
from otel_oom.pipeline.durable.wal import PAGE_BYTES

_NUMBER = struct.Struct(">I")
_FREE_LIST_AT = 32  # in page 1, sqlite.org/fileformat2.html, "The Database Header"


class Pages:
    """The pages of one file and of its log. Use it in a `with`."""

    def __init__(self, path: pathlib.Path, log_path: pathlib.Path) -> None:
        frames = _committed(wal.read(log_path).frames)
        self._file, self._log = _opened(path), _opened(log_path)
        self._proven = {one.page: one.offset for one in frames if one.is_proven}
        size = os.fstat(self._file).st_size if self._file is not None else 0
        self.count = max([-(-size // PAGE_BYTES), *self._proven])
        """How many pages there are, which are numbered from 1."""
        self._doubtful: dict[int, list[int]] = {}
        for one in frames:
            if not one.is_proven and 1 <= one.page <= self.count + len(frames):
                self._doubtful.setdefault(one.page, []).append(one.offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self._file, self._log):
            if fd is not None:
                os.close(fd)

    def images(self, number: int) -> Iterator[bytes]:
        """What a page may look like: what is proven, and what is doubtful after that."""
        if number in self._proven:
            yield _block(self._log, self._proven[number])
        elif number <= self.count:
            yield _block(self._file, (number - 1) * PAGE_BYTES)
        for offset in self._doubtful.get(number, ()):
            yield _block(self._log, offset)

    def used(self) -> Iterator[int]:
        """The pages that may have rows: all but the free ones, as far as these are known."""
        free = self._free()
        for number in sorted({*range(1, self.count + 1), *self._doubtful}):
            if number not in free:
                yield number

    def _free(self) -> set[int]:
        """The pages of the list of free ones; it ends where it is damaged."""
        free: set[int] = set()
        trunk = self._number(1, _FREE_LIST_AT)
        while 1 < trunk <= self.count and trunk not in free:
            free.add(trunk)
            leaves = min(self._number(trunk, 4), PAGE_BYTES // 4 - 2)
            free.update(self._number(trunk, 8 + 4 * leaf) for leaf in range(leaves))
            trunk = self._number(trunk, 0)
        return free

    def _number(self, page: int, at: int) -> int:
        image = next(self.images(page), bytes(PAGE_BYTES))
        (number,) = _NUMBER.unpack_from(image, at)
        return int(number)


def _committed(frames: list[wal.Frame]) -> list[wal.Frame]:
    """Those up to the last commit: of what comes after it nobody was told that it is kept."""
    commits = [number for number, frame in enumerate(frames) if frame.is_commit]
    return frames[: commits[-1] + 1] if commits else []


def _opened(path: pathlib.Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return None


def _block(fd: int | None, offset: int) -> bytes:
    """A page of the file, with zeros for what is not there or cannot be read."""
    data = b""
    if fd is not None:
        with contextlib.suppress(OSError):
            data = os.pread(fd, PAGE_BYTES, offset)
    return data.ljust(PAGE_BYTES, b"\0")
