"""Storage operations that are slow for one known reason: one layer is slowed, and no other.

    with storage_injections.ALL["device_read"].inject() as scene, scene.start(count=20) as task:
        ...                       # trace or watch task.tid on scene.device
        for operation in task.finish():
            ...                   # slow, because of the layer of ALL["device_read"]

`docs/storage-injections.md` shows what the kernel does in each. Needs root, loop devices, FUSE.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from doubles import block_device, control_group, memory_cgroup, operations, slow_fuse
from doubles.block_device import Device

MIB = 1 << 20
_DISK_BYTES = 512 * MIB


class Unavailable(Exception):
    """This machine cannot do it; the text says what it takes."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """Where the operation happens; each `start` is a task that will do it."""

    device: Device
    operation: str
    path: pathlib.Path
    bytes_: int = 4096
    groups: Sequence[pathlib.Path] = ()
    prefix: Sequence[str] = ()

    def start(self, count: int) -> AbstractContextManager[operations.Task]:
        """A task that is ready to do the operation so many times."""
        return operations.started(
            self.operation,
            self.path,
            count=count,
            bytes_=self.bytes_,
            pause_ms=2,
            groups=self.groups,
            prefix=self.prefix,
        )


@dataclasses.dataclass(frozen=True)
class Injection:
    """`layer` is the verdict to expect, `truth` the kind of span of storage_truth that shows it."""

    layer: str
    truth: str
    inject: Callable[[], AbstractContextManager[Scene]]


class _Disk:
    """A slow disk: what it is made of, and where its file system is mounted."""

    def __init__(self, slow: slow_fuse.SlowFile, device: Device, folder: pathlib.Path) -> None:
        self.slow, self.device, self.folder = slow, device, folder


@contextlib.contextmanager
def _disk(
    filesystem: str = "",
    *,
    depth: int = 64,
    options: str = "noatime",
    processors: Sequence[int] = (),
) -> Iterator[_Disk]:
    """A disk without a delay yet, mounted if it has a file system."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="disk-")))
        slow = stack.enter_context(slow_fuse.file(_DISK_BYTES, depth=depth, processors=processors))
        device = stack.enter_context(block_device.loop(slow.path, direct_io=True))
        if filesystem:
            block_device.make_filesystem(device, filesystem)
            stack.enter_context(block_device.mounted(device, folder, options))
        stack.callback(slow.delay)  # so that all below ends soon
        yield _Disk(slow, device, folder)


@contextlib.contextmanager
def crowd(size: int, operation: str, path: pathlib.Path, **options: object) -> Iterator[None]:
    """Other tasks that do an operation without end."""
    with contextlib.ExitStack() as stack:
        for _ in range(size):
            task = operations.started(operation, path, **options)  # type: ignore[arg-type]
            stack.enter_context(task).begin()
        yield


@contextlib.contextmanager
def none() -> Iterator[Scene]:
    """No delay: the noise of the ground itself."""
    with _disk("ext4") as disk:
        yield Scene(disk.device, "fsync", disk.folder / "file")


@contextlib.contextmanager
def device_read() -> Iterator[Scene]:
    """The disk takes 20 ms for each read."""
    with _disk() as disk:
        disk.slow.delay(read_s=0.02)
        yield Scene(disk.device, "read", disk.device.path)


@contextlib.contextmanager
def device_write() -> Iterator[Scene]:
    """The disk takes 20 ms for each write, and the caller waits for its own data."""
    with _disk("ext4-nojournal") as disk:
        disk.slow.delay(write_s=0.02)
        yield Scene(disk.device, "fsync", disk.folder / "file")


@contextlib.contextmanager
def device_write_xfs() -> Iterator[Scene]:
    """The disk takes 20 ms for each write, under XFS: the data, then the log."""
    with _disk("xfs") as disk:
        disk.slow.delay(write_s=0.02)
        yield Scene(disk.device, "fsync", disk.folder / "file")


@contextlib.contextmanager
def device_write_btrfs() -> Iterator[Scene]:
    """The disk takes 20 ms for each write, under Btrfs: the data, then the tree log."""
    with _disk("btrfs") as disk:
        disk.slow.delay(write_s=0.02)
        yield Scene(disk.device, "fsync", disk.folder / "file")


@contextlib.contextmanager
def device_flush() -> Iterator[Scene]:
    """The disk takes 30 ms to flush its cache, without a journal: the caller's own flush."""
    with _disk("ext4-nojournal") as disk:
        disk.slow.delay(fsync_s=0.03)
        yield Scene(disk.device, "fsync", disk.folder / "file")


@contextlib.contextmanager
def device_flush_in_journal() -> Iterator[Scene]:
    """The disk takes 30 ms to flush its cache, in the commit that the fsync waits for."""
    with _disk("ext4") as disk:
        disk.slow.delay(fsync_s=0.03)
        yield Scene(disk.device, "fsync", disk.folder / "file")


@contextlib.contextmanager
def scheduler() -> Iterator[Scene]:
    """BFQ sends one request at a time, and the task's are of the idle class: others go first."""
    with (
        _disk() as disk,
        disk.device.set_queue("scheduler", "bfq"),
        disk.device.set_queue("iosched/strict_guarantees", 1),
        disk.device.set_queue("iosched/low_latency", 0),
    ):
        disk.slow.delay(read_s=0.002)
        with crowd(4, "read", disk.device.path):
            yield Scene(disk.device, "read", disk.device.path, prefix=["ionice", "-c", "3"])


@contextlib.contextmanager
def tags() -> Iterator[Scene]:
    """The queue has four requests for seventeen readers."""
    with _disk() as disk, disk.device.set_queue("nr_requests", 4):
        disk.slow.delay(read_s=0.005)
        with crowd(16, "read", disk.device.path):
            yield Scene(disk.device, "read", disk.device.path)


@contextlib.contextmanager
def throttle_read() -> Iterator[Scene]:
    """The task's cgroup may read five times a second."""
    with _disk() as disk, _cgroup("blkio") as group:
        group.limit_io(disk.device.major, disk.device.minor, read_iops=5)
        yield Scene(disk.device, "read", disk.device.path, groups=[group.procs])


@contextlib.contextmanager
def throttle_fsync() -> Iterator[Scene]:
    """The task's cgroup may write five times a second; the data of its fsync is its own."""
    with _disk("ext4") as disk, _cgroup("blkio") as group:
        group.limit_io(disk.device.major, disk.device.minor, write_iops=5)
        yield Scene(disk.device, "fsync", disk.folder / "file", groups=[group.procs])


@contextlib.contextmanager
def journal_storm() -> Iterator[Scene]:
    """Eight others create files and fsync on the same file system; the disk is a bit slow."""
    with _disk("ext4") as disk:
        disk.slow.delay(fsync_s=0.005)
        with crowd(8, "fsync", disk.folder / "other", bytes_=65536):
            yield Scene(disk.device, "fsync", disk.folder / "file")


@contextlib.contextmanager
def journal_ordered() -> Iterator[Scene]:
    """The commit must write the data of 32 other files first (data=ordered)."""
    with _disk("ext4", depth=1, options="noatime,nodelalloc,nodioread_nolock") as disk:
        disk.slow.delay(write_s=0.002)
        yield Scene(disk.device, "fsync_entangled", disk.folder / "file")


@contextlib.contextmanager
def journal_locked() -> Iterator[Scene]:
    """The commit waits for another task's handle, and that waits for a slow read of a bitmap."""
    with _disk("ext4-groups") as disk:
        for number in range(64):
            (disk.folder / f"folder{number}").mkdir()
            (disk.folder / f"folder{number}" / "file").write_bytes(bytes(16384))
        _make_cold(disk)
        scene = Scene(disk.device, "fsync", disk.folder / "file")
        with scene.start(count=16) as first:
            first.finish()  # its own bitmaps are cached then
        disk.slow.delay(read_s=0.1)
        with _unlinking(sorted(disk.folder.glob("*/file"))):
            yield scene


def _make_cold(disk: _Disk) -> None:
    """Nothing of its file system is cached then but folders and inodes."""
    subprocess.run(["umount", disk.folder], check=True)
    # A kernel that reads all bitmaps after a mount is told not to; 5.10 does not know the word.
    for options in ("noatime,no_prefetch_block_bitmaps", "noatime"):
        mount = ["mount", "-o", options, disk.device.path, disk.folder]
        if not subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
            break
    for path in disk.folder.glob("*/*"):
        path.stat()


@contextlib.contextmanager
def _unlinking(paths: Sequence[pathlib.Path]) -> Iterator[None]:
    """Another task that removes these files, one after the other."""
    script = "import os, sys\nfor path in sys.argv[1:]: os.unlink(path)"
    with subprocess.Popen([sys.executable or "python3", "-c", script, *paths]) as process:
        try:
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def dirty() -> Iterator[Scene]:
    """The disk may have few dirty pages, and cleans them slowly."""
    with (
        _disk("ext4") as disk,
        disk.device.set_writeback("strict_limit", 1),
        disk.device.set_writeback("max_ratio_fine", _parts_of_dirty_limit(4 * MIB)),
    ):
        disk.slow.delay(write_s=0.02)
        path = _file(disk, 16 * MIB)
        scene = Scene(disk.device, "buffered_write", path, bytes_=4 * MIB)
        with scene.start(count=2) as first:
            first.finish()
        yield scene


@contextlib.contextmanager
def wakeup() -> Iterator[Scene]:
    """A task of real time has the processor when the read is done."""
    *others, processor = sorted(os.sched_getaffinity(0))
    if not others:
        raise Unavailable("needs two processors, one for the task and one for its disk")
    pinned = ["taskset", "-c", str(processor)]
    hog = {"bytes_": 80_000, "pause_ms": 5, "prefix": ["chrt", "-f", "10", *pinned]}
    # The disk is served elsewhere, or it would be late as well.
    with _disk(processors=others) as disk, disk.device.set_queue("rq_affinity", 0):
        disk.slow.delay(read_s=0.01)
        with crowd(1, "burn", pathlib.Path("/"), **hog):
            yield Scene(disk.device, "read", disk.device.path, prefix=pinned)


@contextlib.contextmanager
def cpu_quota() -> Iterator[Scene]:
    """The task's cgroup has used up its processor time when the read is done."""
    with _disk() as disk, _cgroup("cpu") as group:
        disk.slow.delay(read_s=0.01)
        group.limit_cpu(quota_us=5_000, period_us=100_000)
        inside = {"groups": [group.procs], "prefix": ["taskset", "-c", "0"]}
        with crowd(1, "burn", pathlib.Path("/"), bytes_=100_000, **inside):
            yield Scene(disk.device, "read", disk.device.path, **inside)


@contextlib.contextmanager
def reclaim() -> Iterator[Scene]:
    """The task's memory is full of pages that must be written to a slow disk first."""
    with _disk("ext4", depth=1) as disk, memory_cgroup.temporary(8 * MIB) as group:
        disk.slow.delay(write_s=0.02)
        path = _file(disk, 16 * MIB)
        if group.version == 2:
            raise Unavailable(
                "needs cgroup v1's memory: v2 slows the writer before memory is short"
            )
        groups = [group.path / "cgroup.procs"]
        scene = Scene(disk.device, "buffered_write", path, bytes_=4 * MIB, groups=groups)
        with scene.start(count=4) as first:
            first.finish()
        yield scene


@contextlib.contextmanager
def _cgroup(controller: str) -> Iterator[control_group.ControlGroup]:
    try:
        with control_group.temporary(controller) as group:
            yield group
    except control_group.Unavailable as error:
        raise Unavailable(str(error)) from error


def _parts_of_dirty_limit(limit_bytes: int) -> int:
    """So many bytes as the kernel wants them told: in millionths of the machine's own limit."""
    vmstat = dict(line.split() for line in pathlib.Path("/proc/vmstat").read_text().splitlines())
    return (
        limit_bytes * 1_000_000 // (int(vmstat["nr_dirty_threshold"]) * os.sysconf("SC_PAGE_SIZE"))
    )


def _file(disk: _Disk, size_bytes: int) -> pathlib.Path:
    path = disk.folder / "file"
    with path.open("wb") as made:
        made.truncate(size_bytes)
    return path


ALL = {
    "none": Injection("", "", none),
    "device_read": Injection("device", "device", device_read),
    "device_write": Injection("device", "device", device_write),
    "device_write_xfs": Injection("device", "device", device_write_xfs),
    "device_write_btrfs": Injection("device", "device", device_write_btrfs),
    "device_flush": Injection("device", "device", device_flush),
    "device_flush_in_journal": Injection("device", "device", device_flush_in_journal),
    "scheduler": Injection("scheduler", "queue", scheduler),
    "tags": Injection("block_queue", "tag", tags),
    "throttle_read": Injection("block_queue", "throttle", throttle_read),
    "throttle_fsync": Injection("block_queue", "throttle", throttle_fsync),
    "journal_storm": Injection("journal", "commit", journal_storm),
    "journal_locked": Injection("journal", "commit", journal_locked),
    "journal_ordered": Injection("journal", "commit", journal_ordered),
    "dirty": Injection("page_cache", "dirty", dirty),
    "reclaim": Injection("memory", "reclaim", reclaim),
    "wakeup": Injection("wakeup", "wakeup", wakeup),
    "cpu_quota": Injection("", "wakeup", cpu_quota),
}
"""By name. Without a layer the operation, from system call to return, is not slow."""
