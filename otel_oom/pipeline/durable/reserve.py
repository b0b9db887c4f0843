"""Blocks of the disk that are kept free for what must still be written when the disk is full.

A file of this size lies beside the database. When a critical request, or the removal of what was
delivered, finds no room, the file gives up a piece of itself, and so on until it is empty. As long
as it is not whole again, others are refused: they would take what it gave up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import time

_PIECE_BYTES = 256 << 10
_AGAIN_S = 1.0
"""Between two tries to fill it again."""


class Reserve:
    """The file; `errors` of the disk other than a full one come through as OSError."""

    def __init__(self, path: pathlib.Path, size: int) -> None:
        self._path = path
        self._size = size
        self._fill_at_s = 0.0
        self.is_whole = False
        self.fill()

    def fill(self) -> bool:
        """Whether it is whole; it tries to be, now and then."""
        now_s = time.monotonic()
        if not self.is_whole and now_s >= self._fill_at_s:
            self._fill_at_s = now_s + _AGAIN_S
            self.is_whole = self._allocate()
        return self.is_whole

    def give(self) -> bool:
        """Give up a piece; False if there is none left."""
        with contextlib.suppress(OSError):
            left = self._path.stat().st_size
            os.truncate(self._path, max(left - _PIECE_BYTES, 0))
            self.is_whole = False
            return left > 0
        return False

    def _allocate(self) -> bool:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, min(os.fstat(fd).st_size, self._size))
            if self._size:
                os.posix_fallocate(fd, 0, self._size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            raise
        finally:
            os.close(fd)
        return True
