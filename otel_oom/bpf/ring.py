"""Reads a BPF ring buffer (kernel Documentation/bpf/ringbuf.rst).

On x86-64 the ring is mapped and read in Python: 2 to 4 times faster than a callback per
record. There the processor keeps loads in order, so a record that is seen committed is whole.
Other processors may not; on them libbpf reads, with its barriers.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import select
import struct
from typing import Protocol

from otel_oom import errors
from otel_oom.bpf import libbpf

_BUSY = 1 << 31
_DISCARD = 1 << 30
_LENGTH = _DISCARD - 1
_HEADER_BYTES = 8
_WORD = struct.Struct("<I")


class Ring(Protocol):
    """The reading end of a ring."""

    @property
    def fd(self) -> int:
        """Readable, for epoll, when there are records."""

    def drain(self, limit: int) -> list[bytes]:
        """Copies of up to `limit` committed records, oldest first, which leave the ring."""

    def is_empty(self) -> bool:
        """Whether everything that was written has been drained."""

    def close(self) -> None:
        """Let go of the memory; the map itself belongs to its object."""


class MappedRing:
    """The ring's pages, read in place."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        """`fd` of the map, `size_bytes` its `max_entries`."""
        page = mmap.PAGESIZE
        self.fd = fd
        self._mask = size_bytes - 1
        self._consumer_map = mmap.mmap(fd, page)
        # Read-only for us: the producer's position, then the data. The kernel offers the data
        # twice in a row; mapped twice, every page of it would count twice as resident.
        self._producer_map = mmap.mmap(fd, page + size_bytes, prot=mmap.PROT_READ, offset=page)
        self._consumer = memoryview(self._consumer_map).cast("Q")
        self._pages = memoryview(self._producer_map)
        self._producer = self._pages[:page].cast("Q")
        self._data = self._pages[page:]

    def drain(self, limit: int) -> list[bytes]:
        """See `Ring`."""
        at, end = self._consumer[0], self._producer[0]
        records: list[bytes] = []
        data, mask = self._data, self._mask
        while at < end and len(records) < limit:
            start = at & mask
            (word,) = _WORD.unpack_from(data, start)
            if word & _BUSY:
                break
            length = word & _LENGTH
            if not word & _DISCARD:
                start += _HEADER_BYTES
                record = bytes(data[start : start + length])
                if len(record) < length:
                    record += bytes(data[: length - len(record)])  # it wraps
                records.append(record)
            at += _HEADER_BYTES + (length + 7 & ~7)
            self._consumer[0] = at
        return records

    def is_empty(self) -> bool:
        """See `Ring`."""
        return self._consumer[0] == self._producer[0]

    def close(self) -> None:
        """See `Ring`."""
        for view in (self._data, self._producer, self._pages, self._consumer):
            view.release()
        self._producer_map.close()
        self._consumer_map.close()


class CallbackRing:
    """The ring, read by libbpf."""

    def __init__(self, fd: int) -> None:
        """`fd` of the map."""
        self.fd = fd
        self._records: list[bytes] = []
        self._sample = libbpf.SAMPLE(self._take)
        self._ring = libbpf.library().ring_buffer__new(fd, self._sample, None, None)
        if not self._ring:
            raise errors.BpfError(f"the ring cannot be read: {libbpf.error_text()}")

    def drain(self, limit: int) -> list[bytes]:
        """See `Ring`; libbpf hands over all there is, so `limit` is not kept."""
        del limit
        libbpf.library().ring_buffer__consume(self._ring)
        records, self._records = self._records, []
        return records

    def _take(self, _context: int, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return 0

    def is_empty(self) -> bool:
        """See `Ring`; asked of the kernel, for which a ring with records is readable."""
        readable, _, _ = select.select([self.fd], [], [], 0)
        return not readable

    def close(self) -> None:
        """See `Ring`."""
        if self._ring:
            libbpf.library().ring_buffer__free(self._ring)
            self._ring = None


def open_ring(fd: int, size_bytes: int) -> Ring:
    """The way of reading that is right on this machine."""
    if platform.machine() == "x86_64":
        return MappedRing(fd, size_bytes)
    return CallbackRing(fd)
