"""Runs inside the VM: every injection, and those of devices that only a VM has; a JSON line each.

The folder `modules` holds what this kernel needs for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
from collections.abc import Iterator

from doubles import block_device, kernel_modules, show_injections, storage_injections
from doubles.block_device import Device
from doubles.storage_injections import Injection, Scene

COUNT = 7
MODULES = pathlib.Path("modules")
SECTORS = 131072  # 64 MiB


@contextlib.contextmanager
def dm_delay() -> Iterator[Scene]:
    """The device mapper holds each read for 20 ms, above the disk."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(block_device.sparse_file(SECTORS * 512))
        disk = stack.enter_context(block_device.loop(file))
        table = f"0 {SECTORS} delay {disk.path} 0 20 {disk.path} 0 0"
        device = stack.enter_context(_mapped("slow", table))
        yield Scene(device, "read", device.path)


@contextlib.contextmanager
def _mapped(name: str, table: str) -> Iterator[Device]:
    subprocess.run(["dmsetup", "create", name, "--table", table], check=True)
    try:
        subprocess.run(["dmsetup", "mknodes", name], check=True)
        yield Device(pathlib.Path("/dev/mapper", name).resolve())
    finally:
        subprocess.run(["dmsetup", "remove", "--retry", name], check=True)


@contextlib.contextmanager
def scsi_delay() -> Iterator[Scene]:
    """A SCSI disk takes 20 ms for each command."""
    device = _scsi_disk()
    yield Scene(device, "read", device.path)


@contextlib.contextmanager
def scsi_tags() -> Iterator[Scene]:
    """The same disk has one command at a time, its queue what the kernel gives it for that."""
    device = _scsi_disk()
    with storage_injections.crowd(4, "read", device.path):
        yield Scene(device, "read", device.path)


@contextlib.contextmanager
def scsi_queue() -> Iterator[Scene]:
    """As `scsi_tags`, with room for all readers in the scheduler."""
    device = _scsi_disk()
    with (
        device.set_queue("scheduler", "mq-deadline"),
        device.set_queue("nr_requests", 64),
        storage_injections.crowd(4, "read", device.path),
    ):
        yield Scene(device, "read", device.path)


def _scsi_disk() -> Device:
    parameters = "delay=0 ndelay=20000000 max_queue=1 dev_size_mb=64"
    kernel_modules.load(MODULES / "scsi_debug.ko", parameters)
    (disk,) = pathlib.Path("/sys/bus/pseudo/drivers/scsi_debug").glob(
        "adapter0/host*/target*/*/block/*"
    )
    return Device(pathlib.Path("/dev", disk.name))


@contextlib.contextmanager
def nvme_limit() -> Iterator[Scene]:
    """A drive that the host limits to 20 requests a second."""
    device = _drive("limited")
    yield Scene(device, "read", device.path)


@contextlib.contextmanager
def virtio_limit() -> Iterator[Scene]:
    """A virtio disk that the host limits to 20 requests a second."""
    device = Device(pathlib.Path("/dev/vda"))
    yield Scene(device, "read", device.path)


def _drive(serial: str) -> Device:
    for disk in pathlib.Path("/sys/block").glob("nvme*"):
        if (disk / "device" / "serial").read_text().strip() == serial:
            return Device(pathlib.Path("/dev", disk.name))
    raise storage_injections.Unavailable(f"the VM has no drive {serial}")


def told(name: str, injection: Injection) -> dict[str, object]:
    """What it did, or why it cannot be done here."""
    told: dict[str, object] = {"injection": name, "truth": injection.truth}
    try:
        truth, done = show_injections.watched(injection, COUNT, show_injections.WORK)
    except storage_injections.Unavailable as error:
        return {**told, "left_out": str(error)}
    except FileNotFoundError as error:
        return {**told, "left_out": f"this kernel has no {error.filename}"}
    except (OSError, subprocess.SubprocessError) as error:
        return {**told, "error": repr(error)}
    shares = [truth.shares(operation) for operation in done]
    told["shares"] = {kind: statistics.median(one[kind] for one in shares) for kind in shares[0]}
    told["in_call_ms"] = statistics.median(truth.in_call_ns(operation) / 1e6 for operation in done)
    told["ms"] = statistics.median(operation.duration_ns / 1e6 for operation in done)
    told["woken_by"] = dict(show_injections.wakings(truth, done).most_common())
    return told


IN_A_VM = {
    "dm_delay": Injection("device", "asleep", dm_delay),
    "scsi_delay": Injection("device", "device", scsi_delay),
    "scsi_tags": Injection("block_queue", "tag", scsi_tags),
    "scsi_queue": Injection("scheduler", "queue", scsi_queue),
    "nvme_limit": Injection("device", "device", nvme_limit),
    "virtio_limit": Injection("device", "device", virtio_limit),
}


def main() -> None:
    os.environ.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    own_load = MODULES / "scsi_debug.ko"
    kernel_modules.load_all(path for path in MODULES.glob("*.ko") if path != own_load)
    print(json.dumps({"release": platform.release()}), flush=True)
    for name, injection in (storage_injections.ALL | IN_A_VM).items():
        print(json.dumps(told(name, injection)), flush=True)


main()
