"""Reads the series out of the memory that the kernel side counts into.

Each CPU has a row of slots, and a series the same slot in each row. The kernel takes slots in
order, so a reading goes no further than the first that was never taken; it adds up only series
whose number of requests has moved.
"""

from __future__ import annotations

import mmap
import operator
from collections.abc import Collection, Iterable

from otel_oom.bpf import storage_events as events
from otel_oom.receivers.storage.histogram import BUCKETS, Histogram, Series

_SERIES = events.StorageSeriesLayout
_CACHED = events.StorageCachedLayout
_CPU = events.StorageCpuLayout
_U64, _U32 = 8, 4
_NOBODY = (1 << 64) - 1  # no cgroup's serial number
_WRAP = 1 << 32  # of a bucket
_WORDS = _SERIES.SIZE_BYTES // _U64
_EMPTY = Histogram(0, 0, [0] * BUCKETS)


class Slots:
    """The mapped rows, and what was last read of each slot."""

    def __init__(self, memory: mmap.mmap, cpus: int, slots: int) -> None:
        """`memory` of the map `storage_series`: `cpus` rows of `slots`."""
        self._memory = memory
        self._cpus, self._slots = cpus, slots
        self._words = memoryview(memory).cast("Q")
        self._halves = memoryview(memory).cast("I")
        self._requests = [0] * slots
        self._series: dict[int, Series] = {}

    def read(self, end: int) -> dict[int, Series]:
        """The series of all slots below `end` that have counted anything, by slot."""
        for slot, requests in enumerate(self._read_requests(end)):
            if requests != self._requests[slot]:
                self._requests[slot] = requests
                self._series[slot] = self._read_series(slot)
        return self._series

    def told(self, slot: int) -> int:
        """Requests of a slot at its last reading."""
        return self._requests[slot]

    def clear(self, slot: int) -> int:
        """Zero a slot that no series has; returns the requests that were counted in it."""
        counted = sum(self._row(slot, "requests"))
        for cpu in range(self._cpus):
            start = (cpu * self._slots + slot) * _SERIES.SIZE_BYTES
            self._memory[start : start + _SERIES.SIZE_BYTES] = bytes(_SERIES.SIZE_BYTES)
        self._requests[slot] = 0
        self._series.pop(slot, None)
        return counted

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._halves.release()
        self._memory.close()

    def _read_requests(self, end: int) -> Iterable[int]:
        rows = []
        for cpu in range(self._cpus):
            start = cpu * self._slots * _WORDS
            rows.append(self._words[start : start + end * _WORDS : _WORDS].tolist())
        return map(sum, zip(*rows, strict=True))

    def _row(self, slot: int, field: str) -> list[int]:
        """A 64-bit field of the slot on each CPU."""
        at = slot * _WORDS + _SERIES.OFFSETS[field][0] // _U64
        return self._words[at :: self._slots * _WORDS].tolist()[: self._cpus]

    def _read_series(self, slot: int) -> Series:
        before = self._series.get(slot)
        return Series(
            requests=self._requests[slot],
            bytes=sum(self._row(slot, "data_bytes")),
            merged=sum(self._row(slot, "merged")),
            queue=self._histogram(slot, "queue", before.queue if before else _EMPTY),
            device=self._histogram(slot, "device", before.device if before else _EMPTY),
        )

    def _histogram(self, slot: int, name: str, before: Histogram) -> Histogram:
        counts = [0] * (1 + BUCKETS)
        for cpu in range(self._cpus):
            start = (cpu * self._slots + slot) * _SERIES.SIZE_BYTES
            zeros = (start + _SERIES.OFFSETS[f"{name}_zeros"][0]) // _U32
            first = (start + _SERIES.OFFSETS[f"{name}_buckets"][0]) // _U32
            row = [self._halves[zeros], *self._halves[first : first + BUCKETS]]
            counts = list(map(operator.add, counts, row))
        if self._requests[slot] >= _WRAP:
            counts = unwrapped([before.zeros, *before.buckets], counts)
        return Histogram(sum(self._row(slot, f"{name}_sum_ns")), counts[0], counts[1:])


class Cpus:
    """What each CPU counts beside the series, and its cache from key to slot."""

    def __init__(self, memory: mmap.mmap, cpus: int) -> None:
        """`memory` of the map `storage_cpus`."""
        self._memory, self._cpus = memory, cpus
        self._words = memoryview(memory).cast("Q")
        self._halves = memoryview(memory).cast("I")

    def counters(self) -> events.StorageCounters:
        """Sums over the CPUs."""
        form = events.StorageCountersLayout.FORMAT
        rows = [form.unpack_from(self._memory, cpu * _CPU.SIZE_BYTES) for cpu in range(self._cpus)]
        *numbers, reserved = zip(*rows, strict=True)
        return events.StorageCounters._make([*map(sum, numbers), reserved[0]])

    def uncache(self, slots: Collection[int]) -> None:
        """Let no cache lead to these slots; one word is written, so no entry is ever half new."""
        for cpu in range(self._cpus) if slots else ():
            start, size = _CPU.OFFSETS["cached"]
            start += cpu * _CPU.SIZE_BYTES
            for entry in range(start, start + size, _CACHED.SIZE_BYTES):
                if self._halves[(entry + _CACHED.OFFSETS["slot"][0]) // _U32] in slots:
                    self._words[(entry + _CACHED.OFFSETS["owner"][0]) // _U64] = _NOBODY

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._halves.release()
        self._memory.close()


def unwrapped(before: Iterable[int], now: Iterable[int]) -> list[int]:
    """Counts that never wrap, from what they were `before` and sums of counts that do."""
    return [old + (new - old) % _WRAP for old, new in zip(before, now, strict=True)]
