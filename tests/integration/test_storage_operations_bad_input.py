"""Calls that end as few do, rings and tables that are full: each counted, none with a made-up time.

Others use disks at the same time, so a test looks at its own device, file or cgroup; where it
has to count what the kernel side counts of all, it follows a call that nobody else makes, or
waits for a moment in which the sums close.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from doubles import block_cgroup, block_device, exponential, odd_callers, slow_fuse
from doubles import operations as doing
from doubles.block_device import Device

from otel_oom.bpf.storage_operations_events import StorageCall
from otel_oom.receivers.storage import histogram, operations, records
from otel_oom.receivers.storage.histogram import Histogram

pytestmark = [pytest.mark.root, pytest.mark.storage]

MIB = 1 << 20
NEVER_S = 1e6
LONG_S = 60.0
SLOW_S = 0.4


@pytest.fixture
def device() -> Iterator[Device]:
    with block_device.sparse_file(64 * MIB) as backing, block_device.loop(backing) as made:
        settle()
        yield made


@pytest.fixture
def slow() -> Iterator[slow_fuse.SlowFile]:
    with slow_fuse.file(4 * MIB, depth=8) as made:
        yield made


def settle() -> None:
    """Udev reads a new device; that must not fall into a test's counts."""
    if shutil.which("udevadm"):
        subprocess.run(["udevadm", "settle"], check=False, capture_output=True)


@contextlib.contextmanager
def following(
    *calls: str, least_s: float = NEVER_S, ring_bytes: int = MIB, max_series: int = 1024
) -> Iterator[operations.Operations]:
    """The tier alone, which follows each of these calls."""
    running = operations.Operations(
        operations.Settings(
            stage_s=least_s,
            total_s=least_s,
            sample=dict.fromkeys(calls, 1),
            ring_bytes=ring_bytes,
            max_series=max_series,
        )
    )
    try:
        yield running
    finally:
        running.close()


def file_device(path: pathlib.Path) -> int:
    """The kernel's number of the filesystem that a file is on."""
    number = path.stat().st_dev
    return os.major(number) << histogram.MINOR_BITS | os.minor(number)


def counted(running: operations.Operations, device: int) -> list[Histogram]:
    """What was timed on the device, a histogram for each cgroup and call."""
    return [found for key, found in running.read().items() if key.device == device]


def count(running: operations.Operations, device: int) -> int:
    return sum(found.measured for found in counted(running, device))


def told(running: operations.Operations, device: int) -> list[records.Operation]:
    """All that was reported of the device."""
    found = map(records.decode, running.drain())
    return [operation for operation in found if operation.file.device == device]


def until(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.005)


def nothing_goes_on(running: operations.Operations) -> bool:
    counts = running.counters()
    return counts.tracked == counts.finished + counts.abandoned


def test_a_task_that_is_killed_inside_its_fsync_returns_from_it_and_is_counted(
    slow: slow_fuse.SlowFile,
) -> None:
    """The kernel takes a sleeping task out of its call before it lets it die."""
    device = file_device(slow.path)
    slow.delay(fsync_s=SLOW_S)
    with following("fdatasync", least_s=SLOW_S / 100) as running:
        with odd_callers.started("sync", slow.path) as task:
            task.begin()
            task.until_in(odd_callers.FDATASYNC)
            task.process.kill()
            task.process.wait(LONG_S)
        slow.delay()
        until(lambda: nothing_goes_on(running), "a slot was left")
        (one,) = told(running, device)
        with odd_callers.started("sync", slow.path) as task:
            task.finish()

        assert one.raw.tgid == one.raw.tid
        assert one.raw.comm.startswith(b"odd_callers")
        assert running.counters().abandoned == 0
        assert count(running, device) == 2


def lose_returns(running: operations.Operations) -> None:
    """As if the kernel skipped the program at each return."""
    programs = running._object
    programs._library.bpf_link__destroy(programs._links.pop("on_sys_exit"))


def test_calls_whose_return_is_not_seen_are_counted_as_abandoned(tmp_path: pathlib.Path) -> None:
    """By the next call of the task, or by its end; none of them has a time."""
    file = tmp_path / "file"
    file.write_bytes(bytes(4096))
    with following("sync_file_range") as running:
        lose_returns(running)
        with odd_callers.started("twice", file) as task:
            task.begin()
            assert task.line() == ["once"]
            going_on = running.counters()
            task.begin()
            task.finish()
        until(lambda: running.counters().abandoned == 2, "the end of the task was not seen")

        assert going_on.abandoned == 0
        assert count(running, file_device(file)) == 0


def test_a_call_of_a_task_whose_slot_is_anothers_is_not_followed_and_is_counted(
    slow: slow_fuse.SlowFile, tmp_path: pathlib.Path
) -> None:
    quick = tmp_path / "file"
    quick.write_bytes(b"")
    outer_device = file_device(slow.path)
    slow.delay(fsync_s=2)
    with block_cgroup.temporary() as (group,), following("fdatasync") as running:
        with odd_callers.started("collide", slow.path, quick, 5, group=group.path) as task:
            lines = task.finish().splitlines()
        slow.delay()
        counts = running.counters()
        times = {words[0]: [int(word) for word in words[1:]] for words in map(str.split, lines)}
        series = {key: found for key, found in running.read().items() if key.cgroup_id == group.id}

    assert times["outer"][0] < times["inner"][0] < times["inner"][1] < times["outer"][1]
    assert counts.collided == 5
    assert {key.device: found.measured for key, found in series.items()} == {outer_device: 1}


def test_a_ring_that_overflows_tenfold_is_counted_exactly(device: Device) -> None:
    """Nobody drains; of all that was slow, each is in the ring or counted as lost."""
    with following("read", least_s=0, ring_bytes=16384) as running:
        with odd_callers.started("bomb", device.path, 300) as task:
            task.finish()
        until(lambda: nothing_goes_on(running), "a slot was left")
        running.detach()
        counts, raw = running.counters(), running.drain()
        slow_ones = sum(found.measured for found in running.read().values())
        mine = count(running, device.number)

    assert counts.reported == len(raw) > 0
    assert counts.lost >= 10 * counts.reported
    assert counts.reported + counts.lost == slow_ones + counts.too_long
    assert mine == 300
    assert all(records.decode(each).duration_ns > 0 for each in raw)


@pytest.mark.parametrize("max_series", [256, 16384])
def test_ten_thousand_cgroups_are_counted_to_the_last_call(device: Device, max_series: int) -> None:
    """With room for each, and without: then the rest of them share a series."""
    groups = 10_000
    with block_cgroup.temporary() as (parent,):
        folders = [parent.path / str(number) for number in range(groups)]
        for folder in folders:
            folder.mkdir()
        ids = {folder.stat().st_ino for folder in folders}
        try:
            with following("read", max_series=max_series) as running:
                arguments = "spread", device.path, groups, parent.path
                with odd_callers.started(*arguments) as task:
                    task.finish()
                running.detach()
                series, counts = running.read(), running.counters()
        finally:
            for folder in folders:
                folder.rmdir()

    own = {key: found for key, found in series.items() if key.device == device.number}
    assert {found.measured for found in own.values()} == {1}
    assert {key.cgroup_id for key in own} <= ids
    shared = [found for key, found in series.items() if key.is_overflow]
    assert sum(found.measured for found in shared) == counts.overflowed
    if max_series > groups:
        assert len(own) == groups
        assert shared == []
    else:
        assert len(series) <= max_series + len(shared)
        assert len(own) + counts.overflowed >= groups
        (overflow,) = shared
        assert overflow.sum_ns > 0


def test_a_device_that_goes_away_while_it_is_read_is_a_failed_call(
    slow: slow_fuse.SlowFile,
) -> None:
    """Detached and broken at once: the read returns an error, and its time is the real one."""
    attach = ["losetup", "--find", "--show", "--direct-io=on", slow.path]
    device = Device(pathlib.Path(subprocess.check_output(attach, text=True).strip()))
    detach = ["losetup", "--detach", device.path]
    with following("read", least_s=SLOW_S / 100) as running:
        with odd_callers.started("read", device.path) as task:
            slow.delay(read_s=SLOW_S)
            slow.fail("read", errno.EIO)
            task.begin()
            task.until_in(odd_callers.PREAD)
            subprocess.run(detach, check=True)
            assert task.process.wait(LONG_S) == 1
        slow.delay()
        until(lambda: nothing_goes_on(running), "a slot was left")
        failed = {
            number: failures
            for (key, number), failures in running.errors().items()
            if key.device == device.number
        }
        (one,) = (one for one in told(running, device.number) if one.raw.tid == task.tid)

    assert failed[errno.EIO] >= 1  # udev may have read it, too
    assert one.raw.result == -errno.EIO
    assert 0 < one.duration_ns < LONG_S * 1e9
    assert not pathlib.Path(f"/sys/block/{device.name}/loop").exists()


def test_a_disk_that_breaks_under_a_file_system_fails_the_fsync(
    tmp_path: pathlib.Path,
) -> None:
    """The fsync that waits for it returns the error, with the time that it really took."""
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(slow_fuse.file(64 * MIB, depth=8))
        device = stack.enter_context(block_device.loop(slow.path, direct_io=True))
        block_device.make_filesystem(device, "ext4")
        stack.enter_context(block_device.mounted(device, tmp_path, "noatime"))
        running = stack.enter_context(following("fsync", least_s=SLOW_S / 2))
        with doing.started("fsync", tmp_path / "file", count=1) as task:
            slow.delay(write_s=SLOW_S)
            slow.fail("write", errno.EIO)
            with pytest.raises(OSError, match="operations ended"):
                task.finish()
        slow.delay()
        slow.fail("write", 0)
        until(lambda: nothing_goes_on(running), "a slot was left")
        (one,) = (one for one in told(running, device.number) if one.raw.tid == task.tid)
        failed = {number for (key, number) in running.errors() if key.device == device.number}

    assert one.raw.result in (-errno.EIO, -errno.EROFS)  # ext4 may have given up by then
    assert -one.raw.result in failed
    assert SLOW_S / 2 <= one.duration_ns / 1e9 < LONG_S


def test_calls_of_the_32_bit_entry_are_not_taken_for_others(device: Device) -> None:
    """The number is a read's on the 64-bit entry."""
    with following("read") as running:
        with odd_callers.started("compat", device.path, 100) as task:
            task.begin()
            ended = task.process.wait(LONG_S)
        if ended == -signal.SIGSEGV:
            pytest.skip("needs 32-bit calls: boot a kernel with CONFIG_IA32_EMULATION=y")
        failed = {key.device for key, _ in running.errors()}
        before = count(running, device.number)
        with odd_callers.started("read", device.path) as task:
            task.finish()

        assert ended == 0
        assert device.number not in failed
        assert before == 0
        assert count(running, device.number) == 1


def test_a_bomb_of_short_lived_readers_is_counted_to_the_last(device: Device) -> None:
    with following("read") as running:
        with odd_callers.started("bomb", device.path, 2000) as task:
            task.finish()
        until(lambda: nothing_goes_on(running), "a slot was left")
        counts = running.counters()

        assert 2000 - counts.collided <= count(running, device.number) <= 2000
        assert counts.abandoned == 0


def test_an_agent_that_starts_again_in_a_call_invents_no_time(slow: slow_fuse.SlowFile) -> None:
    """The first saw no end, the second no beginning: neither has the call, both the truth."""
    device = file_device(slow.path)
    slow.delay(fsync_s=2)
    with odd_callers.started("sync", slow.path) as task:
        with following("fdatasync", least_s=0) as first:
            task.begin()
            task.until_in(odd_callers.FDATASYNC)
            first.detach()
            assert count(first, device) == 0
            assert not nothing_goes_on(first)
        with following("fdatasync", least_s=0) as second:
            slow.delay()
            assert task.process.wait(LONG_S) == 0
            assert count(second, device) == 0
            assert told(second, device) == []
            with odd_callers.started("sync", slow.path) as another:
                another.finish()
            assert count(second, device) == 1
            (one,) = told(second, device)

    assert one.raw.tid == another.tid


def test_the_histogram_is_an_exact_replay_of_the_calls(slow: slow_fuse.SlowFile) -> None:
    """Of the times that were reported, bucket for bucket; of the task's own within one bucket.

    Between the task's clock and the kernel's lie the entry, the return and what following costs,
    some microseconds: so the calls have to take milliseconds.
    """
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(block_device.loop(slow.path, direct_io=True))
        settle()
        (group,) = stack.enter_context(block_cgroup.temporary())
        running = stack.enter_context(following("read", least_s=0, ring_bytes=4 * MIB))
        slow.delay(read_s=0.003)
        enter = [group.path / "cgroup.procs"]
        with doing.started("read", device.path, count=200, groups=enter) as task:
            calls = task.finish()
        reported = [one for one in told(running, device.number) if one.raw.tid == task.tid]
        series = {key: found for key, found in running.read().items() if key.cgroup_id == group.id}

    reported.sort(key=lambda one: one.start_ns)
    ((key, found),) = series.items()
    assert (key.device, key.operation) == (device.number, StorageCall.READ)
    assert len(reported) == len(calls) == found.measured == 200
    for one, call in zip(reported, calls, strict=True):
        assert call.start_ns < one.start_ns < one.end_ns < call.end_ns
    assert found.sum_ns == sum(one.duration_ns for one in reported)
    assert bucket_counts(found) == collections.Counter(bucket(one) for one in reported)
    apart = [bucket(call) - bucket(one) for one, call in zip(reported, calls, strict=True)]
    assert min(apart) == 0
    # On a busy machine the task is preempted now and then between its clock and its call.
    assert sum(each <= 1 for each in apart) >= 0.95 * len(apart)


def bucket(one: records.Operation | doing.Operation) -> int:
    found = exponential.bucket(one.duration_ns)
    assert isinstance(found, int)
    return found


def bucket_counts(found: Histogram) -> collections.Counter[int]:
    return collections.Counter(
        {histogram.FIRST_BUCKET + at: number for at, number in enumerate(found.buckets) if number}
    )
