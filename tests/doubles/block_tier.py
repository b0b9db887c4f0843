"""The block tier in a test: attached, its series and slow requests of one device."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator

from doubles import block_cgroup, exponential, loop_device

from otel_oom.bpf import storage_events as events
from otel_oom.receivers.storage import block, histogram
from otel_oom.receivers.storage.histogram import Histogram, Series

MIB = 1024 * 1024
Operation = events.StorageOperation


@contextlib.contextmanager
def counting(**options: int) -> Iterator[block.Block]:
    """The tier with thresholds that nothing reaches, if not told otherwise.

    It sees the whole machine: there is room for the series of other tests at work beside this.
    """
    defaults = {"stage_ns": 1 << 62, "total_ns": 1 << 62, "max_series": 12_000, "ring_bytes": MIB}
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
