"""A slow operation in the terms of `semconv`, whatever tier it comes from.

The two tiers know different things: of a system call its process, file and waits; of a block
request its flags and whom the kernel accounts it to. Both become a `Slow`, which is encoded.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import NamedTuple

from otel_oom import semconv
from otel_oom.bpf.storage_operations_events import StorageCall, StorageRequestFlag
from otel_oom.receivers.storage import files
from otel_oom.receivers.storage.records import Operation
from otel_oom.receivers.storage.timeline import Timeline
from otel_oom.receivers.storage.verdict import Verdict

TASK, INODE, CGROUP = "task", "inode", "cgroup"
"""How it is known who asked."""

ASYNCHRONOUS = "asynchronous"
"""The flag of an operation that a call submitted without waiting for it."""

DIRECTIONS = {"read": "read", "write": "write", "write_zeroes": "write", "zone_append": "write"}
"""`disk.io.direction` of the operations that move data; a discard moves none."""

_FILESYSTEMS = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x794C7630: "overlay",
    0x65735546: "fuse",
    0x6969: "nfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x00C36400: "ceph",
    0xF2F52010: "f2fs",
    0xE0F5E1E2: "erofs",
    0x73717368: "squashfs",
    0x4D44: "vfat",
    0x2011BAB0: "exfat",
    0x5346544E: "ntfs",
    0x7366746E: "ntfs3",
    0x9660: "iso9660",
    0x15013346: "udf",
    0x2FC12FC1: "zfs",
    0xCA451A4E: "bcachefs",
    0x62646576: "bdev",
}
"""By `s_magic` (linux/magic.h). ext2 and ext3 have the number of ext4, whose code serves them."""

_RESTARTS = {512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND"}
_RESTARTS[516] = "ERESTART_RESTARTBLOCK"
"""A signal came first: the kernel's own codes, which become EINTR or a new try."""

_CALLS = {call.value: call.name.lower() for call in StorageCall}
_MOVES_BYTES = (StorageCall.READ.value, StorageCall.WRITE.value)
_MERGED = StorageRequestFlag.MERGED.value


class Subject(NamedTuple):
    """What an operation is about, as far as it comes again and again from one to the next.

    `is_merged` is None where it is not asked.
    """

    operation: str
    direction: str = ""
    executable: str = ""
    device: str = ""
    path: str = ""
    filesystem: str = ""
    attribution: str = TASK
    error: str = ""
    flags: tuple[str, ...] = ()
    is_merged: bool | None = None
    missing: tuple[tuple[str, str], ...] = ()


class Slow(NamedTuple):
    """One slow operation. `identity` makes its ids; `line` has its times, on one clock.

    `pid` and `inode` are 0 where they are not known, `bytes` and `sector` None where it has none.
    `submitter` is the identity of the call that submitted an asynchronous one.
    """

    identity: tuple[int, ...]
    cgroup_id: int
    subject: Subject
    line: Timeline
    verdict: Verdict
    pid: int = 0
    inode: int = 0
    bytes: int | None = None
    requests: int = 0
    reclaim_ns: int = 0
    sector: int | None = None
    submitter: tuple[int, ...] | None = None


class Known(NamedTuple):
    """What is looked up for an operation: names of devices, paths of files."""

    device: Callable[[int], str | None]
    path: Callable[[Operation], str | None]


def of_call(operation: Operation, line: Timeline, verdict: Verdict, known: Known) -> Slow:
    """A system call."""
    raw, requests = operation.raw, line.requests
    moved = raw.result if raw.call in _MOVES_BYTES and raw.result > 0 else None
    return Slow(
        operation.identity,
        raw.cgroup_id,
        _call_subject(operation, line, known),
        line,
        verdict,
        raw.tgid,
        operation.file.inode,
        moved,
        len(requests),
        raw.reclaim_ns,
        submitter=operation.submitter,
    )


def _call_subject(operation: Operation, line: Timeline, known: Known) -> Subject:
    raw, file, missing = operation.raw, operation.file, line.missing
    path = known.path(operation) if file.inode else None
    if file.inode and path is None:
        missing = (*missing, (semconv.FILE_PATH, files.GONE))
    if operation.submitter and not file.inode:
        missing = (*missing, (semconv.FILE_INODE, files.NOT_TOLD))
    device = known.device(line.requests[0].device if line.requests else file.device)
    return Subject(
        operation=_CALLS[raw.call],
        direction=DIRECTIONS.get(_CALLS[raw.call], ""),
        executable=name(raw.comm),
        device=device or "",
        path=path or "",
        filesystem=_FILESYSTEMS.get(file.magic, f"{file.magic:#x}") if file.magic else "",
        error=error_name(raw.result) if raw.result < 0 else "",
        flags=(ASYNCHRONOUS,) if operation.submitter else (),
        is_merged=any(request.flags & _MERGED for request in line.requests) or None,
        missing=missing,
    )


@functools.lru_cache(1024)
def name(comm: bytes) -> str:
    """A process's name up to its NUL; what is no UTF-8 is kept as backslash, x and two digits."""
    return comm.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def error_name(result: int) -> str:
    """The name of a negative errno."""
    return errno.errorcode.get(-result) or _RESTARTS.get(-result) or str(result)
