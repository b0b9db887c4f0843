"""The test ground of storage: disks as slow as told, gone at the end, and a trace that tells it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import pathlib
import subprocess

import pytest
from doubles import (
    block_device,
    control_group,
    fio,
    kernel_trace,
    operations,
    slow_fuse,
    storage_truth,
)
from doubles.kernel_trace import Event
from doubles.operations import Operation

pytestmark = pytest.mark.storage

MIB = 1 << 20
TID = 7


def mounts() -> str:
    return pathlib.Path("/proc/self/mounts").read_text()


def written(device: block_device.Device) -> int:
    """Writes since the machine began, with those that were merged into others."""
    stat = pathlib.Path("/sys/class/block", device.name, "stat").read_text().split()
    return int(stat[4]) + int(stat[5])


def attached(backing: pathlib.Path) -> str:
    return subprocess.check_output(["losetup", "--associated", backing], text=True)


def test_a_slow_disk_keeps_what_is_written_and_counts_what_comes() -> None:
    with slow_fuse.file(8 * MIB) as slow:
        with slow.path.open("r+b", buffering=0) as file:
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
        assert slow.path.read_bytes()[:4097] == b"x" * 4096 + b"\0"
        assert slow.path.stat().st_size == 8 * MIB
        assert slow.served("write") == 1
        assert slow.served("fsync") == 1
        assert slow.served("read") > 0


def test_no_request_is_done_before_its_delay() -> None:
    with slow_fuse.file(8 * MIB) as slow, block_device.loop(slow.path, direct_io=True) as device:
        slow.delay(read_s=0.05)
        with operations.started("read", device.path, count=3) as task:
            done = task.finish()
    assert [operation.duration_ns >= 50_000_000 for operation in done] == [True] * 3


def test_a_disk_of_depth_one_serves_one_after_the_other() -> None:
    with (
        slow_fuse.file(8 * MIB, depth=1) as slow,
        block_device.loop(slow.path, direct_io=True) as device,
    ):
        slow.delay(read_s=0.02)
        report = fio.run(filename=device.path, rw="randread", direct=1, iodepth=4, io_size="32k")
    assert report.requests("read") == 8
    assert report.raw["read"]["runtime"] >= 8 * 20


def test_a_disk_can_fail() -> None:
    with slow_fuse.file(8 * MIB) as slow, slow.path.open("rb", buffering=0) as file:
        slow.fail("read", errno.EIO)
        with pytest.raises(OSError) as raised:
            file.read(4096)
        slow.fail("read", 0)
        assert len(file.read(4096)) == 4096
    assert raised.value.errno == errno.EIO


@pytest.mark.parametrize("kind", block_device.FILESYSTEMS)
def test_a_file_system_is_made_and_nothing_is_left(kind: str, tmp_path: pathlib.Path) -> None:
    with block_device.sparse_file(512 * MIB) as backing, block_device.loop(backing) as device:
        block_device.make_filesystem(device, kind)
        with block_device.mounted(device, tmp_path):
            (tmp_path / "file").write_text("there")
            assert f"{device.path} {tmp_path} {kind.partition('-')[0]} " in mounts()
        assert f"{tmp_path} " not in mounts()
        with block_device.mounted(device, tmp_path):
            assert (tmp_path / "file").read_text() == "there"
    assert attached(backing) == ""


def test_a_failure_leaves_nothing(tmp_path: pathlib.Path) -> None:
    with contextlib.suppress(RuntimeError), contextlib.ExitStack() as stack:
        slow = stack.enter_context(slow_fuse.file(64 * MIB))
        device = stack.enter_context(block_device.loop(slow.path))
        block_device.make_filesystem(device, "ext4")
        stack.enter_context(block_device.mounted(device, tmp_path))
        assert f"{tmp_path} " in mounts()
        raise RuntimeError
    assert f"{tmp_path} " not in mounts()
    assert str(slow.path) not in mounts()
    assert not slow.path.exists()


def test_settings_are_put_back() -> None:
    with block_device.sparse_file(8 * MIB) as backing, block_device.loop(backing) as device:
        before = device.queue("scheduler"), device.queue("nr_requests")
        with device.set_queue("scheduler", "mq-deadline"), device.set_queue("nr_requests", 8):
            assert (device.queue("scheduler"), device.queue("nr_requests")) == ("mq-deadline", "8")
        assert (device.queue("scheduler"), device.queue("nr_requests")) == before


def test_a_task_is_in_its_cgroup_and_the_cgroup_goes() -> None:
    with (
        control_group.temporary("blkio") as group,
        operations.started("burn", pathlib.Path("/"), groups=[group.procs]) as task,
    ):
        assert group.procs.read_text().split() == [str(task.tid)]
    assert not group.path.exists()


def test_an_operation_that_fails_is_an_error(tmp_path: pathlib.Path) -> None:
    started = operations.started("read", tmp_path / "missing" / "file")
    with pytest.raises(OSError, match="operations ended with 125"):
        started.__enter__()


def test_fio_counts_what_the_disk_counts() -> None:
    with block_device.sparse_file(8 * MIB) as backing, block_device.loop(backing) as device:
        before = written(device)
        report = fio.run(filename=device.path, rw="randwrite", direct=1, io_size="4m")
        counted = written(device) - before
    assert report.requests("write") == 1024
    assert report.bytes("write") == 4 * MIB
    assert counted == 1024


def test_the_trace_has_every_event_and_says_what_it_lacks() -> None:
    with operations.started("fsync", pathlib.Path("/dev/null"), count=1) as task:
        wanted = {"raw_syscalls/sys_enter": f"common_pid == {task.tid}", "no/such_event": ""}
        with kernel_trace.recording(wanted) as trace, pytest.raises(OSError):
            task.finish()  # /dev/null cannot be synced
    fsyncs = [event for event in trace.events if event.text.startswith("NR 74 ")]
    assert [event.tid for event in fsyncs] == [task.tid]
    assert trace.left_out == ["no/such_event"]
    assert trace.lost == 0


def event(time_ns: int, name: str, text: str, *, tid: int = TID, comm: str = "task") -> Event:
    return Event(time_ns, name, tid, comm, 0, "task", text)


def switch(time_ns: int, leaves: int, comes: int) -> Event:
    text = f"prev_comm=a prev_pid={leaves} prev_state=D ==> next_comm=b next_pid={comes}"
    return event(time_ns, "sched_switch", text, tid=leaves)


def test_the_truth_of_a_made_up_operation() -> None:
    recorded = [
        event(10, "block_bio_queue", "7,0 RS 8 + 8 [task]"),
        event(15, "block_getrq", "7,0 RS 8 + 8 [task]"),
        event(20, "block_rq_issue", "7,0 RS 4096 () 8 + 8 be,0,4 [task]"),
        switch(25, TID, 0),
        event(30, "block_rq_complete", "7,0 RS () 99 + 8 be,0,4 [0]", tid=3),
        event(60, "block_rq_complete", "7,0 RS () 8 + 8 be,0,4 [0]", tid=3),
        event(62, "sched_waking", f"comm=task pid={TID} prio=120", tid=3),
        switch(90, 0, TID),
    ]
    truth = storage_truth.Truth(recorded, TID)
    shares = truth.shares(Operation(TID, 0, 100))
    assert shares["tag"] == 0.05
    assert shares["device"] == 0.40
    assert shares["wakeup"] == 0.28
    assert shares["asleep"] == 0.37
    assert shares["running"] == 0.35
    assert shares["queue"] == shares["throttle"] == shares["commit"] == 0


def test_what_overlaps_is_counted_once() -> None:
    issues = [
        event(at, "block_rq_issue", f"7,0 W 4096 () {at} + 8 be,0,4 [task]") for at in (10, 20)
    ]
    queued = [event(5, "block_bio_queue", f"7,0 W {at} + 8 [task]") for at in (10, 20)]
    done = [event(50, "block_rq_complete", f"7,0 W () {at} + 8 be,0,4 [0]") for at in (10, 20)]
    truth = storage_truth.Truth([*queued, *issues, *done], TID)
    assert truth.shares(Operation(TID, 0, 100))["device"] == 0.40
    for start, end in itertools.pairwise((0, 30, 50)):
        assert truth.shares(Operation(TID, start, end))["device"] <= 1
