"""Real requests of real loop devices, counted in the kernel.

They are held against the kernel's own counts of the device, and against an exact replay.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
from doubles import block_cgroup, exponential, loop_device

from otel_oom.bpf import block_probe, loader
from otel_oom.bpf import storage_events as events
from otel_oom.receivers.storage import block, histogram
from otel_oom.receivers.storage.histogram import Histogram, Key, Series

pytestmark = pytest.mark.root

MIB = 1024 * 1024
SOURCES = pathlib.Path(__file__).parents[2] / "bpf"
Operation = events.StorageOperation
Flag = events.StorageRequestFlag


@pytest.fixture(autouse=True)
def _loops() -> None:
    if sentence := loop_device.unavailable():
        pytest.skip(sentence)


@pytest.fixture
def loop(tmp_path: pathlib.Path) -> Iterator[loop_device.LoopDevice]:
    with loop_device.attached(tmp_path) as attached:
        settle()
        yield attached


@contextlib.contextmanager
def counting(**options: int) -> Iterator[block.Block]:
    """The tier with thresholds that nothing reaches, if not told otherwise.

    It sees the whole machine: there is room for the series of other tests at work beside this.
    """
    defaults = {"stage_ns": 1 << 62, "total_ns": 1 << 62, "ring_bytes": MIB}
    defaults["max_series"] = 12_000
    made = block.Block(**(defaults | options))
    try:
        yield made
    finally:
        made.close()


def settle() -> None:
    """Udev looks at a new device; its reads must not fall into a test's."""
    if shutil.which("udevadm"):
        subprocess.run(["udevadm", "settle"], check=False, capture_output=True)


def of(found: block.Block, loop: loop_device.LoopDevice) -> dict[Operation, Series]:
    """The device's series, of whichever cgroup."""
    by_operation: dict[Operation, Series] = {}
    for key, series in found.read_series().items():
        if key.device == loop.device:
            assert Operation(key.operation) not in by_operation, "one cgroup is expected"
            by_operation[Operation(key.operation)] = series
    return by_operation


def drained(found: block.Block, loop: loop_device.LoopDevice) -> list[block.SlowRequest]:
    records: list[block.SlowRequest] = []
    while batch := found.drain():
        records += [record for record in batch if record.device == loop.device]
    return records


def own_cgroup_id() -> int:
    top = block_cgroup.hierarchy()
    assert top is not None
    return block_cgroup._own(top).stat().st_ino


# --- counts ---


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


# --- times ---


def replay(times_ns: list[int]) -> Histogram:
    """What the histogram of these times must be."""
    buckets = [0] * histogram.BUCKETS
    zeros = 0
    for ns in times_ns:
        index = exponential.bucket(ns)
        if index is None:
            zeros += 1
        else:
            buckets[index - histogram.FIRST_BUCKET] += 1
    return Histogram(sum(times_ns), zeros, buckets)


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


# --- flushes ---


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


# --- who it was for ---


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


# --- what cannot be measured ---


def test_a_queue_without_statistics_gets_no_invented_time(loop: loop_device.LoopDevice) -> None:
    with counting(total_ns=0) as found, loop.queue(iostats=0):
        before = found.unmeasured()["no_start"]
        loop.read(4096, 10)
        series = of(found, loop)[Operation.READ]
        assert found.unmeasured()["no_start"] - before >= 10
        assert drained(found, loop) == []
    assert series.requests == 10
    assert series.queue.measured == 0
    assert series.device.measured == 10


@pytest.fixture
def _no_queue_keeps_the_issue(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same program, reading a field of the request that stays 0 in the place of the issue's.

    Which queues keep the time of issue is the kernel's build (CONFIG_BLK_WBT_MQ); once a queue
    does, it cannot be turned off.
    """
    if shutil.which("clang") is None or not (SOURCES / "storage.bpf.c").exists():
        pytest.skip("needs clang and bpf/ of the checkout: apt-get install clang")
    built = tmp_path / "storage.bpf.o"
    command = ["clang", "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-D__TARGET_ARCH_x86"]
    field = "-Dio_start_time_ns=alloc_time_ns"
    subprocess.run([*command, field, "-I.", "-c", "storage.bpf.c", "-o", built],
                   check=True, cwd=SOURCES)  # fmt: skip
    settings = block_probe._settings
    monkeypatch.setattr(loader, "_image", lambda _: built.read_bytes())
    monkeypatch.setattr(
        block_probe, "_settings", lambda *how: settings(*how)._replace(queue_stats=0)
    )


@pytest.mark.usefixtures("_no_queue_keeps_the_issue")
def test_a_queue_that_keeps_no_issue_gets_it_from_us(
    loop: loop_device.LoopDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first requests show that it lacks it; from then on it is noted.

    The unchanged program, attached beside it, says when the kernel saw each request complete.
    """
    with counting(stage_ns=0, total_ns=0) as found:
        monkeypatch.undo()
        with counting(stage_ns=0, total_ns=0) as oracle:
            loop.read(4096, 10)
            first = of(found, loop)[Operation.READ]
            assert (first.requests, first.device.measured, first.queue.measured) == (10, 0, 0)
            assert found.unmeasured()["no_issue"] >= 10
            assert "time of issue by block_rq_issue" in found.describe()
            drained(found, loop), drained(oracle, loop)
            loop.read(4096, 20)
            second = of(found, loop)[Operation.READ]
            noted, kernel = drained(found, loop), drained(oracle, loop)
    assert (second.requests, second.device.measured, second.queue.measured) == (30, 20, 20)
    assert second.device == replay([r.complete_boot_ns - r.issue_boot_ns for r in noted])
    assert second.queue == replay([r.issue_boot_ns - r.start_boot_ns for r in noted])
    for ours, theirs in zip(noted, kernel, strict=True):
        assert ours.sector == theirs.sector
        assert ours.start_boot_ns <= ours.issue_boot_ns
        assert ours.issue_boot_ns <= theirs.complete_boot_ns


@pytest.mark.usefixtures("_no_queue_keeps_the_issue")
def test_with_neither_there_is_a_count_and_no_time(loop: loop_device.LoopDevice) -> None:
    with counting(total_ns=0) as found, loop.queue(iostats=0):
        for _ in range(2):
            loop.read(4096, 10)
            series = of(found, loop)[Operation.READ]
        assert drained(found, loop) == []
    assert (series.requests, series.device.measured, series.queue.measured) == (20, 0, 0)


def test_a_short_read_is_partial_then_requeued_then_an_error(tmp_path: pathlib.Path) -> None:
    """The backing file ends in the middle of a request.

    The loop driver completes the part that is there, requeues the rest, and fails it when it gets
    nothing.
    """
    with (
        loop_device.attached(tmp_path, 64, "--direct-io=on") as loop,
        counting(stage_ns=0, total_ns=0) as found,
    ):
        settle()
        drained(found, loop)
        start = of(found, loop).get(Operation.READ)
        os.truncate(loop.file, 64 * 1024)
        with pytest.raises(OSError, match="Input/output error"):
            loop.read(128 * 1024)
        series, records = of(found, loop)[Operation.READ], drained(found, loop)
        failed = {key: count for key, count in found.errors().items()
                  if key.key.device == loop.device}  # fmt: skip
        partial = found.counters().partial
    assert series.requests - (start.requests if start else 0) == len(records) == 1
    assert series.bytes - (start.bytes if start else 0) == 64 * 1024
    assert partial >= 1
    ((key, count),) = failed.items()
    assert (key.key.operation, block.error_type(key.status), count) == (Operation.READ, "EIO", 1)
    assert records[0].status == key.status
    assert records[0].data_bytes == 64 * 1024


def test_a_device_detached_while_it_is_busy_keeps_its_sums(tmp_path: pathlib.Path) -> None:
    with counting() as found, loop_device.attached(tmp_path) as loop:
        settle()
        before, start = loop.stat(), of(found, loop).get(Operation.READ)
        with subprocess.Popen(["dd", f"if={loop.path}", "of=/dev/null", "bs=4096",
                               "iflag=direct"], stderr=subprocess.DEVNULL) as reader:  # fmt: skip
            time.sleep(0.05)
            loop.detach()
            os.truncate(loop.file, 0)
        told = loop.stat().since(before)
        series = of(found, loop)[Operation.READ]
    requests = series.requests - (start.requests if start else 0)
    assert reader.returncode in (0, 1)
    assert requests == told.reads > 0
    assert series.device.measured <= series.requests


# --- bounds ---


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
    """Each reads once; a thousand have a series, and the rest is in the overflow, none is lost."""
    if block_cgroup.hierarchy() is None:
        pytest.skip("needs the blkio or io controller: a kernel with CONFIG_BLK_CGROUP")
    with counting(max_series=1000) as found, block_cgroup.temporary(10_000) as groups:
        before = loop.stat()
        for group in groups:
            group.enter()
            loop.read(4096)
        told = loop.stat().since(before)
        all_series = found.read_series()
        overflowed = found.counters().overflowed
        ids = {group.id for group in groups}
    own = {key: each for key, each in all_series.items() if key.device == loop.device}
    assert told.reads == 10_000
    assert {key.cgroup_id for key in own} <= ids
    assert all(each.requests == 1 for each in own.values())
    others = len(all_series) - len(own) - sum(key.is_overflow for key in all_series)
    assert len(own) + others == 1000
    overflow = all_series[Key(0, 0, Operation.READ)].requests
    assert len(own) + overflow >= 10_000
    assert overflowed >= 10_000 - len(own)


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
