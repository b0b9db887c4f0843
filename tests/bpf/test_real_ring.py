"""The kernel's own ring, read in both ways: the same records, in the same order."""

from __future__ import annotations

import collections
import struct
from collections.abc import Iterator

import pytest
from doubles import memory_cgroup

from otel_oom.bpf import events, probe, ring
from otel_oom.receivers.oom import records

pytestmark = pytest.mark.root

MIB = 1024 * 1024
RING_BYTES = 16 * 1024
A_LOT = 1000


@pytest.fixture
def attached() -> Iterator[probe.Probe]:
    made = probe.attach(probe.kernel(), RING_BYTES)
    yield made
    made.object.close()


def kill(count: int) -> list[int]:
    """As many real kills; returns the victims' pids."""
    with memory_cgroup.temporary(16 * MIB) as group:
        hogs = [group.hog("eat=64M") for _ in range(count)]
        for hog in hogs:
            hog.wait()
        return [hog.pid for hog in hogs if hog.returncode == -9]


def test_both_ways_of_reading_give_the_same_records(attached: probe.Probe) -> None:
    """The consumer's position is put back, so that the other reads the very same bytes.

    Often enough for the ring to wrap more than once.
    """
    fd = attached.object.map_fd("oom_events")
    mapped, called = ring.MappedRing(fd, RING_BYTES), ring.CallbackRing(fd)
    while mapped._producer[0] < 3 * RING_BYTES:
        victims = kill(2)
        start, end = mapped._consumer[0], mapped._producer[0]
        first = mapped.drain(A_LOT)
        assert mapped.is_empty()
        if mapped._consumer[0] != end:
            continue  # another kill on this machine came in between
        mapped._consumer[0] = start
        assert not called.is_empty()
        second = called.drain(A_LOT)
        assert second[: len(first)] == first
        assert first
        marked = {r.raw.tgid for r in map(records.decode, first) if isinstance(r, records.Mark)}
        assert set(victims) <= marked or counters(attached).lost_marks
    mapped.close()
    called.close()
    called.close()


def test_every_victim_is_marked_delivered_and_gone_in_the_ring() -> None:
    attached = probe.attach(probe.kernel(), MIB)
    reader = ring.open_ring(attached.object.map_fd("oom_events"), MIB)
    (victim,) = kill(1)
    kinds = collections.Counter()
    for raw in reader.drain(A_LOT):
        header = events.OomHeader._make(struct.unpack_from("<QQII", raw))
        if header.tgid == victim:
            kinds[events.OomKind(header.kind)] += 1
    assert kinds == dict.fromkeys(events.OomKind, 1)
    reader.close()
    attached.object.close()


def test_what_finds_no_room_is_counted_in_the_kernel(attached: probe.Probe) -> None:
    """A ring that is not read fills; B goes on counting, and lost_* tells what is missing."""
    before = counters(attached)
    total = 0
    while counters(attached).lost_marks == before.lost_marks:
        total += len(kill(2))
        assert total < 100, "the ring of 16 KiB does not fill"
    now = counters(attached)
    assert now.marks - before.marks >= total
    reader = ring.open_ring(attached.object.map_fd("oom_events"), RING_BYTES)
    found = [records.decode(raw) for raw in reader.drain(A_LOT)]
    marks = [each for each in found if isinstance(each, records.Mark)]
    assert len(marks) + now.lost_marks == now.marks - now.repeats
    reader.close()


def counters(attached: probe.Probe) -> events.OomCounters:
    pages = attached.object.map_pages("oom_counters")
    found = events.OomCounters._make(events.OomCountersLayout.FORMAT.unpack_from(pages))
    pages.close()
    return found
