"""Runs inside the VM: asynchronous operations on a loop device, and on a disk that is often busy.

A line of JSON for each: what was submitted, and what was told of it. The folder `modules` holds
what this kernel needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import platform
from collections.abc import Iterator

from doubles import asynchronous as submitting
from doubles import block_device, kernel_modules, kernel_trace
from doubles.block_device import Device

from otel_oom.bpf.storage_operations_events import StorageCall
from otel_oom.receivers.storage import asynchronous, operations, records

BATCHES, DEPTH = 5, 4
MODULES = pathlib.Path("modules")
REQUEUE = "block/block_rq_requeue"
BUSY = "every_nth=3 opts=0x8000 ndelay=1000000 dev_size_mb=16"
"""Of the commands for the SCSI disk every third is told to come again."""


@contextlib.contextmanager
def loop_device() -> Iterator[Device]:
    with block_device.sparse_file(16 << 20) as file, block_device.loop(file) as device:
        yield device


@contextlib.contextmanager
def busy_disk() -> Iterator[Device]:
    kernel_modules.load(MODULES / "scsi_debug.ko", BUSY)
    disks = pathlib.Path("/sys/bus/pseudo/drivers/scsi_debug")
    (disk,) = disks.glob("adapter0/host*/target*/*/block/*")
    yield Device(pathlib.Path("/dev", disk.name))


def told(running: operations.Operations, device: Device, engine: str, name: str) -> dict[str, int]:
    """What became of one run of the double."""
    running.drain()
    with kernel_trace.recording({REQUEUE: f"dev == {device.number}"}) as trace:
        submitting.run(engine, name, device.path, batches=BATCHES, depth=DEPTH)
    found = [records.decode(raw) for raw in running.drain()]
    submits = {one.identity for one in found if one.raw.call == StorageCall.SUBMIT}
    parts = [one for one in found if asynchronous.is_asynchronous(one)]
    return {
        "told": len(parts),
        "ids": len({one.identity for one in parts}),
        "linked": sum(one.submitter in submits for one in parts),
        "submitters": len({one.submitter for one in parts}),
        "bytes": sum(one.raw.result for one in parts),
        "requeues": len(trace.events),
    }


def main() -> None:
    os.environ.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    own_load = MODULES / "scsi_debug.ko"
    kernel_modules.load_all(path for path in MODULES.glob("*.ko") if path != own_load)
    running = operations.Operations(
        operations.Settings(
            stage_s=0,
            total_s=0,
            sample={"read": 1, "write": 1, "submit": 1},
            ring_bytes=1 << 22,
            max_series=64,
        )
    )
    print(json.dumps({"release": platform.release(), "left_out": sorted(running.left_out)}))
    for make in (loop_device, busy_disk):
        with make() as device:
            for engine in (*submitting.ENGINES, "thread"):
                for name in ("read", "write"):
                    case = {"device": make.__name__, "engine": engine, "operation": name}
                    print(json.dumps({**case, **told(running, device, engine, name)}), flush=True)
    print(json.dumps({"counters": running.counters()._asdict()}))
    running.close()


main()
