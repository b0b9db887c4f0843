"""Series read out of memory that this test writes as the kernel side would."""

from __future__ import annotations

import mmap
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.bpf import storage_events as events
from otel_oom.receivers.storage import slots
from otel_oom.receivers.storage.histogram import BUCKETS

CPUS, SLOTS = 3, 10
SERIES = events.StorageSeriesLayout


class Memory:
    """Rows of slots."""

    def __init__(self) -> None:
        size = CPUS * SLOTS * SERIES.SIZE_BYTES
        self.pages = mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        self.read = slots.Slots(self.pages, CPUS, SLOTS)

    def set(self, cpu: int, slot: int, field: str, value: int, at: int = 0) -> None:
        offset, size = SERIES.OFFSETS[field]
        form = "<I" if "zeros" in field or "buckets" in field else "<Q"
        offset += (cpu * SLOTS + slot) * SERIES.SIZE_BYTES + at * struct.calcsize(form)
        assert at * struct.calcsize(form) < size
        struct.pack_into(form, self.pages, offset, value)


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_a_series_is_the_sum_over_the_cpus(memory: Memory) -> None:
    for cpu in range(CPUS):
        memory.set(cpu, 4, "requests", 10 + cpu)
        memory.set(cpu, 4, "data_bytes", 1000 * cpu)
        memory.set(cpu, 4, "merged", cpu)
        memory.set(cpu, 4, "queue_sum_ns", 7)
        memory.set(cpu, 4, "device_sum_ns", 1 << 40)
        memory.set(cpu, 4, "queue_zeros", 2)
        memory.set(cpu, 4, "device_zeros", cpu)
        memory.set(cpu, 4, "queue_buckets", 3, at=0)
        memory.set(cpu, 4, "device_buckets", 10 * cpu, at=255)
    (found,) = memory.read.read(SLOTS).values()
    assert (found.requests, found.bytes, found.merged) == (33, 3000, 3)
    assert (found.queue.sum_ns, found.queue.zeros) == (21, 6)
    assert (found.device.sum_ns, found.device.zeros) == (3 << 40, 3)
    assert list(found.queue.buckets) == [9] + [0] * (BUCKETS - 1)
    assert list(found.device.buckets) == [0] * (BUCKETS - 1) + [30]
    assert found.queue.measured == 15
    memory.read.close()


def test_only_what_moved_is_read_again(memory: Memory) -> None:
    memory.set(0, 8, "requests", 1)
    memory.set(2, 9, "requests", 1)
    before = dict(memory.read.read(SLOTS))
    memory.set(1, 9, "requests", 1)
    after = memory.read.read(SLOTS)
    assert after[8] is before[8]
    assert after[9].requests == 2


def test_it_reads_no_further_than_it_is_told(memory: Memory) -> None:
    memory.set(0, 8, "requests", 1)
    memory.set(0, 9, "requests", 1)
    assert list(memory.read.read(9)) == [8]
    assert memory.read.read(0).keys() == {8}


def test_a_cleared_slot_begins_at_nothing_and_tells_what_it_had(memory: Memory) -> None:
    memory.set(1, 5, "requests", 4)
    memory.set(1, 5, "device_buckets", 4, at=17)
    memory.read.read(SLOTS)
    assert memory.read.told(5) == 4
    memory.set(2, 5, "requests", 3)
    assert memory.read.clear(5) == 7
    assert 5 not in memory.read.read(SLOTS)
    memory.set(1, 5, "requests", 1)
    assert sum(memory.read.read(SLOTS)[5].device.buckets) == 0


def test_buckets_that_wrap_go_on_counting(memory: Memory) -> None:
    """A CPU's bucket is 32 bits wide: at 2^32 it begins again, and the sum does not."""
    memory.set(0, 1, "requests", (1 << 32) - 6)
    memory.set(0, 1, "device_buckets", (1 << 32) - 6, at=3)
    assert memory.read.read(SLOTS)[1].device.buckets[3] == (1 << 32) - 6
    memory.set(0, 1, "requests", (1 << 32) + 4)
    memory.set(0, 1, "device_buckets", 4, at=3)
    assert memory.read.read(SLOTS)[1].device.buckets[3] == (1 << 32) + 4


@given(steps=st.lists(st.integers(0, (1 << 32) - 1), max_size=50))
def test_any_steps_below_a_wrap_are_added_up(steps: list[int]) -> None:
    total, counter = [0], 0
    for step in steps:
        counter = (counter + step) % (1 << 32)
        total = slots.unwrapped(total, [counter])
    assert total == [sum(steps)]
