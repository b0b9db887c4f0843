"""The ring as the kernel lays it out, written by a test into shared memory.

kernel/bpf/ringbuf.c: a page of the consumer's position, a page of the producer's, then the data
twice in a row. A record is a word of its length with two flags, a word of its own, its bytes,
and padding to 8. The mapping has both copies of the data on the same pages; a plain file has
them twice, so the writer writes both.
"""

from __future__ import annotations

import mmap
import os
import struct

PAGE = mmap.PAGESIZE
BUSY, DISCARD = 1 << 31, 1 << 30


class Writer:
    """The kernel's side."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * size)
        self._memory = mmap.mmap(self.fd, 2 * PAGE + 2 * size)
        self.produced = 0

    @property
    def consumed(self) -> int:
        return int(struct.unpack_from("<Q", self._memory)[0])

    def start_at(self, position: int) -> None:
        """As a ring that has been written so far."""
        struct.pack_into("<Q", self._memory, 0, position)
        self.produced = position
        struct.pack_into("<Q", self._memory, PAGE, position)

    def write(self, record: bytes, flags: int = 0) -> int | None:
        """Reserve and commit; returns where, or None when there is no room."""
        room = 8 + (len(record) + 7 & ~7)
        if self.produced + room - self.consumed > self.size - 1:
            return None
        at = self.produced
        self._put(at, struct.pack("<II", len(record) | flags, 0) + record)
        self.produced += room
        struct.pack_into("<Q", self._memory, PAGE, self.produced)
        return at

    def commit(self, at: int, length: int, flags: int = 0) -> None:
        """Clear the busy flag of a record."""
        self._put(at, struct.pack("<I", length | flags))

    def _put(self, at: int, content: bytes) -> None:
        for index, byte in enumerate(content):
            place = (at + index) % self.size
            for copy in (0, self.size):
                self._memory[2 * PAGE + copy + place] = byte

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)
