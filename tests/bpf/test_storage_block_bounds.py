"""The block tier's tables and ring, full: what is beyond is counted, and named."""

from __future__ import annotations

import collections
import subprocess

import pytest
from doubles import block_cgroup, loop_device, unseen
from doubles.block_tier import counting, of

from otel_oom.bpf import storage_events as events
from otel_oom.receivers.storage.histogram import Key

pytestmark = pytest.mark.root

Operation = events.StorageOperation


def test_series_beyond_the_most_go_to_the_overflow(loop: loop_device.LoopDevice) -> None:
    with counting(max_series=1) as found:
        loop.read(4096, 10)
        loop.write(4096, 20)
        subprocess.run(["blkdiscard", "--length", "1M", loop.path], check=True)
        all_series = found.read_series()
        counters = found.counters()
    overflow = {key: each for key, each in all_series.items() if key.is_overflow}
    assert len(all_series) - len(overflow) == 1
    assert sum(each.requests for each in overflow.values()) == counters.overflowed
    told = collections.Counter()
    for key, each in all_series.items():
        told[Operation(key.operation)] += each.requests
    assert told[Operation.READ] >= 10
    assert told[Operation.WRITE] >= 20
    assert told[Operation.DISCARD] >= 1
    assert sum(told.values()) >= counters.overflowed >= 20


def test_ten_thousand_cgroups(loop: loop_device.LoopDevice) -> None:
    """Each reads once; a thousand have a series, the rest is in the overflow.

    None is lost but what the kernel says that it skipped, because the program was preempted, or
    what this machine's kernel shows to no program.
    """
    if block_cgroup.hierarchy() is None:
        pytest.skip("needs the blkio or io controller: a kernel with CONFIG_BLK_CGROUP")
    with counting(max_series=1000) as found, block_cgroup.temporary(10_000) as groups:
        before = loop.stat()
        with unseen.completions(loop.device) as hidden:
            for group in groups:
                group.enter()
                loop.read(4096)
        told = loop.stat().since(before)
        all_series = found.read_series()
        overflowed = found.counters().overflowed
        skipped = found.lost()["recursion"] + hidden.count
        ids = {group.id for group in groups}
    own = {key: each for key, each in all_series.items() if key.device == loop.device}
    assert told.reads == 10_000
    assert {key.cgroup_id for key in own} <= ids
    assert all(each.requests == 1 for each in own.values())
    others = len(all_series) - len(own) - sum(key.is_overflow for key in all_series)
    assert len(own) + others == 1000
    overflow = all_series[Key(0, 0, Operation.READ)].requests
    assert len(own) + overflow + skipped >= 10_000
    assert overflowed + skipped >= 10_000 - len(own)


def test_a_forgotten_series_gives_its_slot_to_another(loop: loop_device.LoopDevice) -> None:
    """Never what is another's: the slot is empty, and no cache leads to it.

    All series are forgotten each time, those of other work on this machine too, which may take
    a slot before ours does: then ours is in the overflow, and at any rate not half counted.
    """
    if block_cgroup.hierarchy() is None:
        pytest.skip("needs the blkio or io controller: a kernel with CONFIG_BLK_CGROUP")
    served = 0
    with counting(max_series=16) as found, block_cgroup.temporary(60) as groups:
        for number, group in enumerate(groups, 1):
            group.enter()
            loop.read(4096, number)
            series = found.read_series()
            mine = {key: each for key, each in series.items() if key.cgroup_id == group.id}
            served += len(mine)
            assert [each.requests for each in mine.values()] in ([], [number])
            found.forget(series)
            assert not mine.keys() & found.read_series().keys()
            found.read_series()
    assert served > 16, "no slot came back"


def test_a_series_that_comes_again_begins_at_nothing(loop: loop_device.LoopDevice) -> None:
    with counting() as found:
        loop.read(4096, 9)
        (key,) = [key for key in found.read_series() if key.device == loop.device]
        found.forget([key, Key(1, 2, 3)])
        loop.read(4096, 2)
        again = found.read_series()[key]
        found.read_series()
        found.read_series()
    assert again.requests == 2
    assert again.device.measured == 2


def test_a_ring_that_is_not_read_loses_by_count(loop: loop_device.LoopDevice) -> None:
    """Ten times what it holds: reported = produced - lost, to the record."""
    with counting(stage_ns=0, total_ns=0, ring_bytes=4096) as found:
        loop.read(4096, 10 * 4096 // 80)
        found.detach()
        records = 0
        while batch := found.drain():
            records += len(batch)
        counters = found.counters()
        assert found.is_empty()
    assert counters.slow >= 10 * 4096 // 80
    assert records == counters.slow - counters.lost_slow
    assert 0 < records <= 4096 // 80
    assert counters.lost_slow > 400


def test_what_was_counted_can_be_read_after_detaching(loop: loop_device.LoopDevice) -> None:
    with counting() as found:
        loop.read(4096, 5)
        found.detach()
        loop.read(4096, 5)
        assert of(found, loop)[Operation.READ].requests == 5
        assert "block_rq_complete" in found.describe()
        assert set(found.lost().values()) == {0}
