"""Runs inside the VM: real requests of its root disk, counted by us and by the kernel.

Direct reads one by one, and a file that is written and synced on ext4 with a journal. Told as one
line of JSON. The disk is used by nobody else here, so the counts can be held against each other.
"""

import collections
import json
import mmap
import os
import pathlib
import platform
from typing import Any

import guest_storage_block_numbers as numbers
from doubles import loop_device

from otel_oom.bpf import storage_events as events
from otel_oom.receivers.storage.block import Block

Operation = events.StorageOperation
FILE = pathlib.Path("/root/guest_storage")
Counts = dict[str, dict[str, int]]


def root_disk() -> loop_device.Disk:
    number = FILE.parent.stat().st_dev
    partition = pathlib.Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    return loop_device.Disk(pathlib.Path("/dev") / partition.parent.name)


def counts(found: Block, disk: loop_device.Disk) -> Counts:
    """Sums over the cgroups, by operation."""
    sums: Counts = {}
    for key, series in found.read_series().items():
        if key.device == disk.device:
            name = Operation(key.operation).name
            row = sums.setdefault(name, dict.fromkeys(("requests", "bytes", "queue", "device"), 0))
            row["requests"] += series.requests
            row["bytes"] += series.bytes
            row["queue"] += series.queue.measured
            row["device"] += series.device.measured
    return sums


def since(now: Counts, before: Counts) -> Counts:
    return {
        name: {field: value - before.get(name, {}).get(field, 0) for field, value in row.items()}
        for name, row in now.items()
    }


def measured(found: Block, disk: loop_device.Disk, work: Any) -> dict[str, Any]:
    """What was counted of the work, what the kernel's own statistics say, and the requests."""
    os.sync()
    while found.drain():
        pass
    before, kernel = counts(found, disk), disk.stat()
    work()
    ours, theirs = since(counts(found, disk), before), disk.stat().since(kernel)
    records = []
    while batch := found.drain():
        records += [record for record in batch if record.device == disk.device]
    inode = FILE.stat().st_ino
    return {
        "ours": ours,
        "kernel": theirs._asdict(),
        "records": dict(collections.Counter(Operation(r.operation).name for r in records)),
        "inode_bytes": sum(r.data_bytes for r in records if r.inode == inode),
        "after_flush": sum(bool(r.flags & events.StorageRequestFlag.AFTER_FLUSH) for r in records),
    }


def read_directly() -> None:
    fd = os.open(FILE, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, numbers.READ_BYTES) as buffer:
        for number in range(numbers.READS):
            assert os.preadv(fd, [buffer], number * numbers.READ_BYTES) == numbers.READ_BYTES
    os.close(fd)


def write_and_sync() -> None:
    with FILE.open("wb") as file:
        for _ in range(numbers.SYNCS):
            file.write(bytes(numbers.SYNC_BYTES))
            file.flush()
            os.fsync(file.fileno())


FILE.touch()
disk = root_disk()
tier = Block(stage_ns=0, total_ns=0, max_series=64, ring_bytes=1 << 20)
answer: dict[str, Any] = {
    "release": platform.release(),
    "synced": measured(tier, disk, write_and_sync),
    "read": measured(tier, disk, read_directly),
    "lost": tier.lost(),
    "unmeasured": tier.unmeasured(),
    "describe": tier.describe(),
}
tier.close()
print(json.dumps(answer))
