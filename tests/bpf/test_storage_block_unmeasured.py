"""Requests of which the kernel does not keep the times, and devices that fail or go."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import time

import pytest
from doubles import loop_device
from doubles.block_tier import counting, drained, of, replay, settle

from otel_oom.bpf import block_probe, loader
from otel_oom.bpf import storage_events as events
from otel_oom.receivers.storage import block

pytestmark = pytest.mark.root

SOURCES = pathlib.Path(__file__).parents[2] / "bpf"
Operation = events.StorageOperation


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
