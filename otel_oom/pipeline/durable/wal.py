"""SQLite's write-ahead log, read frame by frame (sqlite.org/fileformat2.html, "The WAL").

SQLite believes a log up to its first bad frame and forgets the rest without a word, also where the
rest was committed and synced. Each frame's checksum goes on from the one before, and both are in
the file: so each can be judged by itself, and what comes after a damaged one can still be had.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import struct
import sys
from collections.abc import Iterator

PAGE_BYTES = 4096
_MAGICS = {0x377F0682: "<", 0x377F0683: ">"}
"""The order of the bytes in the words that are summed: the machine's that wrote the log."""

_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint, 2 salts, 2 checksums
_FRAME = struct.Struct(">6I")  # page, pages after the commit or 0, 2 salts, 2 checksums
_FRAME_BYTES = _FRAME.size + PAGE_BYTES

_Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One image of a page; `is_proven`: whether its checksum goes on from the one before."""

    page: int
    is_commit: bool
    is_proven: bool
    offset: int
    """Where the page's bytes begin in the file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Log:
    """The frames of the log's present round; those of earlier rounds may lie behind them."""

    frames: list[Frame]
    is_header_whole: bool

    @property
    def is_broken(self) -> bool:
        """Whether something was committed that SQLite would not believe any more.

        An unfinished transaction at the end is none: nobody was told that it is kept.
        """
        bad = 0 if not self.is_header_whole else self._first_unproven()
        return any(frame.is_commit for frame in self.frames[bad:])

    def _first_unproven(self) -> int:
        unproven = (number for number, one in enumerate(self.frames) if not one.is_proven)
        return next(unproven, len(self.frames))


def read(path: pathlib.Path) -> Log:
    """The log in a file; one without frames if there is none. `OSError` if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Log([], is_header_whole=True)
    try:
        return _read(fd)
    finally:
        os.close(fd)


def _read(fd: int) -> Log:
    header = os.pread(fd, _HEADER.size, 0).ljust(_HEADER.size, b"\0")
    magic, _, _, _, *salts, first, second = _HEADER.unpack(header)
    order = _MAGICS.get(magic, "<" if sys.byteorder == "little" else ">")
    is_whole = magic in _MAGICS and _sum(order, header[:24], (0, 0)) == (first, second)
    frames: list[Frame] = []
    last, seed = 0, (first, second)
    for offset, frame in _raw_frames(fd):
        page, commit, *own_salts, one, other = _FRAME.unpack_from(frame)
        if not is_whole and not frames:
            salts = own_salts  # the round of the first frame is the log's
        is_ours = own_salts == salts
        proven = is_ours and _sums(order, frame, seed) == (one, other)
        frames.append(Frame(page, is_ours and commit > 0, proven, offset + _FRAME.size))
        seed = one, other
        last = len(frames) if is_ours else last
    return Log(frames[:last], is_whole)


def _raw_frames(fd: int) -> Iterator[tuple[int, bytes]]:
    offset = _HEADER.size
    while len(frame := os.pread(fd, _FRAME_BYTES, offset)) == _FRAME_BYTES:
        yield offset, frame
        offset += _FRAME_BYTES


def _sums(order: str, frame: bytes, seed: _Pair) -> _Pair:
    return _sum(order, frame[_FRAME.size :], _sum(order, frame[:8], seed))


def _sum(order: str, data: bytes, seed: _Pair) -> _Pair:
    """The log's own checksum: two running sums over pairs of words."""
    one, other = seed
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for first, second in zip(words, words, strict=True):
        one = (one + first + other) & 0xFFFFFFFF
        other = (other + second + one) & 0xFFFFFFFF
    return one, other
