"""Real requests of real loop devices, counted in the kernel.

They are held against the kernel's own counts of the device, and against an exact replay.
"""

from __future__ import annotations

import collections
import os
import pathlib
import subprocess
import time

import pytest
from doubles import block_cgroup, exponential, loop_device
from doubles.block_tier import counting, drained, of, own_cgroup_id, replay, settle

from otel_oom.bpf import storage_events as events
from otel_oom.receivers.storage import histogram

pytestmark = pytest.mark.root

MIB = 1024 * 1024
Operation = events.StorageOperation
Flag = events.StorageRequestFlag


def test_requests_and_bytes_are_the_kernels_own(loop: loop_device.LoopDevice) -> None:
    with counting() as found:
        before = loop.stat()
        loop.read(4096, 100)
        loop.read(64 * 1024, 10)
        loop.write(8192, 50)
        series, told = of(found, loop), loop.stat().since(before)
    assert series[Operation.READ].requests == told.reads == 110
    assert series[Operation.READ].bytes == told.read_sectors * 512 == 100 * 4096 + 10 * 65536
    assert series[Operation.WRITE].requests == told.writes == 50
    assert series[Operation.WRITE].bytes == told.write_sectors * 512 == 50 * 8192
    for each in series.values():
        assert each.device.measured == each.queue.measured == each.requests
        assert each.device.sum_ns > 0


def test_the_workload_is_the_cgroup_that_asked(loop: loop_device.LoopDevice) -> None:
    if block_cgroup.hierarchy() is None:
        pytest.skip("needs the blkio or io controller: a kernel with CONFIG_BLK_CGROUP")
    read = ["dd", f"if={loop.path}", "of=/dev/null", "bs=4096", "iflag=direct"]
    with counting() as found, block_cgroup.temporary(2) as groups:
        for number, group in enumerate(groups, 1):
            group.run([*read, f"count={7 * number}"])
        reads = {key.cgroup_id: each.requests for key, each in found.read_series().items()
                 if key.device == loop.device and key.operation == Operation.READ}  # fmt: skip
    assert [reads[group.id] for group in groups] == [7, 14]


def test_a_series_that_did_not_move_is_the_same_object(loop: loop_device.LoopDevice) -> None:
    with counting() as found:
        loop.read(4096, 3)
        loop.write(4096, 3)
        before = of(found, loop)
        loop.read(4096, 1)
        after = of(found, loop)
    assert after[Operation.WRITE] is before[Operation.WRITE]
    assert after[Operation.READ].requests == before[Operation.READ].requests + 1


def test_discards_are_an_operation_of_their_own(loop: loop_device.LoopDevice) -> None:
    with counting() as found:
        before = loop.stat()
        subprocess.run(["blkdiscard", "--length", "1M", loop.path], check=True)
        series, told = of(found, loop), loop.stat().since(before)
    assert series[Operation.DISCARD].requests == told.discards == 1
    assert series[Operation.DISCARD].bytes == told.discard_sectors * 512 == MIB


def test_histograms_are_an_exact_replay_of_each_request(loop: loop_device.LoopDevice) -> None:
    """With a threshold of 0 each request is in the ring, too."""
    with counting(stage_ns=0, total_ns=0, ring_bytes=4 * MIB) as found:
        for size in (512, 4096, 65536, 1 << 20):
            loop.read(size, 60)
            loop.write(size, 60)
        series, records = of(found, loop), drained(found, loop)
        assert found.lost()["ring"] == 0
    for operation in (Operation.READ, Operation.WRITE):
        own = [record for record in records if record.operation == operation]
        assert len(own) == series[operation].requests >= 240
        queue = [record.issue_boot_ns - record.start_boot_ns for record in own]
        device = [record.complete_boot_ns - record.issue_boot_ns for record in own]
        assert series[operation].queue == replay(queue)
        assert series[operation].device == replay(device)
        assert series[operation].bytes == sum(record.data_bytes for record in own)


def test_a_device_that_takes_long_is_in_its_bucket(
    loop: loop_device.LoopDevice, tmp_path: pathlib.Path
) -> None:
    """The backing file system is frozen for a while, so a write of it waits; a lower bound."""
    inner = tmp_path / "inner"
    inner.mkdir()
    with (
        loop_device.ext4(loop, tmp_path) as mount,
        loop_device.attached(mount, 8) as slow,
        counting(stage_ns=100_000_000, total_ns=10**12) as found,
    ):
        settle()
        subprocess.run(["fsfreeze", "--freeze", mount], check=True)
        with subprocess.Popen(["dd", "if=/dev/zero", f"of={slow.path}", "bs=4096", "count=1",
                               "oflag=direct"], stderr=subprocess.DEVNULL) as writer:  # fmt: skip
            time.sleep(0.3)
            subprocess.run(["fsfreeze", "--unfreeze", mount], check=True)
        assert writer.returncode == 0
        records = [each for each in drained(found, slow) if each.operation == Operation.WRITE]
        series = of(found, slow)[Operation.WRITE]
    (record,) = records
    took_ns = record.complete_boot_ns - record.issue_boot_ns
    assert took_ns >= 100_000_000
    index = exponential.bucket(took_ns)
    assert index is not None
    assert series.device.buckets[index - histogram.FIRST_BUCKET] == 1
    assert (record.data_bytes, record.sector, record.status) == (4096, 0, 0)
    assert record.flags & Flag.SYNC
    assert record.cgroup_id == own_cgroup_id()


def test_an_fsync_is_counted_once_in_each_step(
    loop: loop_device.LoopDevice, tmp_path: pathlib.Path
) -> None:
    """With a journal: data, journal blocks, a commit record between two flushes of the device.

    The kernel counts a request of a flush sequence once, at its end, and the device's flushes
    apart; an empty request that only asks for a flush it counts as a write of no sectors.
    """
    with loop_device.ext4(loop, tmp_path) as mount, counting(stage_ns=0, total_ns=0) as found:
        os.sync()
        start, before = of(found, loop), loop.stat()
        drained(found, loop)
        with (mount / "file").open("wb") as file:
            for _ in range(20):
                file.write(bytes(10_000))
                file.flush()
                os.fsync(file.fileno())
        series, told = of(found, loop), loop.stat().since(before)
        records = drained(found, loop)
    moved = {name: series[name].requests - (start[name].requests if name in start else 0)
             for name in series}  # fmt: skip
    written = series[Operation.WRITE].bytes
    written -= start[Operation.WRITE].bytes if Operation.WRITE in start else 0
    assert moved[Operation.FLUSH] == told.flushes >= 20
    empty = told.writes - moved[Operation.WRITE]
    assert 0 <= empty <= told.flushes - 20
    assert moved[Operation.WRITE] >= 60
    assert written == told.write_sectors * 512
    kinds = collections.Counter(record.operation for record in records)
    assert kinds == {name: count for name, count in moved.items() if count}
    commits = [record for record in records if record.flags & Flag.AFTER_FLUSH]
    assert len(commits) >= 20
    for commit in commits:
        assert commit.flags & Flag.PREFLUSH
        assert commit.operation == Operation.WRITE


def test_a_wait_for_ones_own_flush_is_no_queue_time(
    loop: loop_device.LoopDevice, tmp_path: pathlib.Path
) -> None:
    with loop_device.ext4(loop, tmp_path) as mount, counting(stage_ns=0, total_ns=0) as found:
        with (mount / "file").open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        write = of(found, loop)[Operation.WRITE]
        records = [r for r in drained(found, loop) if r.operation == Operation.WRITE]
    after_flush = sum(1 for record in records if record.flags & Flag.AFTER_FLUSH)
    assert after_flush > 0
    assert write.device.measured == write.requests == len(records)
    assert write.queue.measured == write.requests - after_flush


def test_an_empty_flush_is_one_flush_of_the_device_and_no_write(
    loop: loop_device.LoopDevice,
) -> None:
    """Fsync of a block device asks for nothing but a flush."""
    with counting() as found:
        left_out = found.left_out()["sequence_ends"]
        fd = os.open(loop.path, os.O_RDWR)
        for _ in range(5):
            os.fsync(fd)
        os.close(fd)
        series = of(found, loop)
        assert found.left_out()["sequence_ends"] - left_out >= 5
    assert series[Operation.FLUSH].requests == 5
    assert series[Operation.FLUSH].device.measured == 5
    assert Operation.WRITE not in series


def test_write_back_and_readahead_name_the_file(
    loop: loop_device.LoopDevice, tmp_path: pathlib.Path
) -> None:
    with loop_device.ext4(loop, tmp_path) as mount, counting(stage_ns=0, total_ns=0) as found:
        path = mount / "file"
        with path.open("wb") as file:
            file.write(bytes(MIB))
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        path.read_bytes()
        records, status = drained(found, loop), path.stat()
    device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
    ours = [r for r in records if (r.inode, r.inode_device) == (status.st_ino, device)]
    written = sum(r.data_bytes for r in ours if r.operation == Operation.WRITE)
    read = [r for r in ours if r.operation == Operation.READ]
    assert written == MIB
    assert sum(r.data_bytes for r in read) == MIB
    assert any(r.flags & Flag.READAHEAD for r in read)


def test_direct_io_names_no_file(loop: loop_device.LoopDevice) -> None:
    with counting(stage_ns=0, total_ns=0) as found:
        loop.read(4096, 3, at=MIB)
        records = drained(found, loop)
    assert [(r.inode, r.inode_device) for r in records] == [(0, 0)] * 3
    assert [r.sector for r in records] == [2048, 2056, 2064]
