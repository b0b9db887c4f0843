"""Python's view of bpf/storage_operations.h, made by tools/make_events.py from BTF: do not edit.

A struct at the start of another is flattened into it. Arrays and other nested structs stay
bytes, for the reader to unpack when it needs them.
"""

from __future__ import annotations

import enum
import struct
from typing import ClassVar, NamedTuple


class StorageCall(enum.IntEnum):
    """enum storage_call."""

    NONE = 0
    READ = 1
    WRITE = 2
    FSYNC = 3
    FDATASYNC = 4
    SYNC_FILE_RANGE = 5
    SYNCFS = 6
    SYNC = 7
    FALLOCATE = 8
    TRUNCATE = 9
    OPEN = 10
    UNLINK = 11
    RENAME = 12
    MKDIR = 13
    COMMIT = 14
    SUBMIT = 15
    STORAGE_CALLS = 16


class StorageEvent(enum.IntEnum):
    """enum storage_event."""

    ENTER = 0
    CACHE_MISS = 1
    FS_ENTER = 2
    WRITEBACK = 3
    WRITEBACK_END = 4
    LOG_FORCE = 5
    COMMIT_LOCKING = 6
    COMMIT_FLUSHING = 7
    COMMIT_LOGGING = 8
    FS_EXIT = 9
    EXIT = 10
    STORAGE_EVENTS = 12


class StorageCause(enum.IntEnum):
    """enum storage_cause."""

    UNKNOWN = 0
    PREEMPTED = 1
    REQUEST = 2
    WORKER = 3
    COMMIT = 4
    THROTTLED = 5
    RECLAIM = 6
    STORAGE_CAUSES = 8


class StorageWaitFlag(enum.IntFlag):
    """enum storage_wait_flag."""

    IO = 1
    LOG = 2
    QUEUED = 4


class StorageOperationFlag(enum.IntFlag):
    """enum storage_operation_flag."""

    ASYNCHRONOUS = 1


class StorageRequestFlag(enum.IntFlag):
    """enum storage_request_flag."""

    WRITE = 1
    FLUSH = 2
    MERGED = 4
    ERROR = 8


class StorageRequest(NamedTuple):
    """struct storage_request."""

    start_ns: int
    issue_ns: int
    complete_ns: int
    sector: int
    bytes: int
    device: int
    flags: int
    reserved: int


class StorageRequestLayout:
    """Where struct storage_request has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_request"
    SIZE_BYTES: ClassVar[int] = 48
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQQQIIII")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "start_ns": (0, 8),
        "issue_ns": (8, 8),
        "complete_ns": (16, 8),
        "sector": (24, 8),
        "bytes": (32, 4),
        "device": (36, 4),
        "flags": (40, 4),
        "reserved": (44, 4),
    }


class StorageWait(NamedTuple):
    """struct storage_wait."""

    sleep_ns: int
    waking_ns: int
    run_ns: int
    queue_ns: int
    request: bytes
    cause: int
    flags: int
    waker: int
    transaction: int


class StorageWaitLayout:
    """Where struct storage_wait has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_wait"
    SIZE_BYTES: ClassVar[int] = 96
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQQQ48sIIII")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "sleep_ns": (0, 8),
        "waking_ns": (8, 8),
        "run_ns": (16, 8),
        "queue_ns": (24, 8),
        "request": (32, 48),
        "cause": (80, 4),
        "flags": (84, 4),
        "waker": (88, 4),
        "transaction": (92, 4),
    }


class StorageFile(NamedTuple):
    """struct storage_file."""

    inode: int
    device: int
    magic: int
    fd: int
    mode: int


class StorageFileLayout:
    """Where struct storage_file has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_file"
    SIZE_BYTES: ClassVar[int] = 24
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QIIiI")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "inode": (0, 8),
        "device": (8, 4),
        "magic": (12, 4),
        "fd": (16, 4),
        "mode": (20, 4),
    }


class StorageOperation(NamedTuple):
    """struct storage_operation."""

    number: int
    tid: int
    tgid: int
    call: int
    waits: int
    bios: int
    cache_misses: int
    transaction: int
    flags: int
    at: bytes
    waited_ns: bytes
    runnable_ns: int
    reclaim_ns: int
    result: int
    cgroup_id: int
    start_boot_ns: int
    submitter: int
    submit_ns: int
    file: bytes
    wait: bytes
    comm: bytes


class StorageOperationLayout:
    """Where struct storage_operation has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_operation"
    SIZE_BYTES: ClassVar[int] = 872
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QIIIIIIII96s64sQQqQQQQ24s576s16s")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "number": (0, 8),
        "tid": (8, 4),
        "tgid": (12, 4),
        "call": (16, 4),
        "waits": (20, 4),
        "bios": (24, 4),
        "cache_misses": (28, 4),
        "transaction": (32, 4),
        "flags": (36, 4),
        "at": (40, 96),
        "waited_ns": (136, 64),
        "runnable_ns": (200, 8),
        "reclaim_ns": (208, 8),
        "result": (216, 8),
        "cgroup_id": (224, 8),
        "start_boot_ns": (232, 8),
        "submitter": (240, 8),
        "submit_ns": (248, 8),
        "file": (256, 24),
        "wait": (280, 576),
        "comm": (856, 16),
    }


class StorageReport(NamedTuple):
    """struct storage_report."""

    number: int
    tid: int
    tgid: int
    call: int
    waits: int
    bios: int
    cache_misses: int
    transaction: int
    flags: int
    at: bytes
    waited_ns: bytes
    runnable_ns: int
    reclaim_ns: int
    result: int
    cgroup_id: int
    start_boot_ns: int
    submitter: int
    submit_ns: int
    file: bytes
    wait: bytes
    comm: bytes
    commit: bytes


class StorageReportLayout:
    """Where struct storage_report has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_report"
    SIZE_BYTES: ClassVar[int] = 1744
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QIIIIIIII96s64sQQqQQQQ24s576s16s872s")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "operation": (0, 872),
        "commit": (872, 872),
    }


class StorageBits(NamedTuple):
    """struct storage_bits."""

    io_stat: int
    flush_sequence: int


class StorageBitsLayout:
    """Where struct storage_bits has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_bits"
    SIZE_BYTES: ClassVar[int] = 8
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<II")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "io_stat": (0, 4),
        "flush_sequence": (4, 4),
    }


class StorageSettings(NamedTuple):
    """struct storage_settings."""

    stage_ns: int
    total_ns: int
    own_tgid: int
    reserved: int
    sample: bytes
    call_of: bytes


class StorageSettingsLayout:
    """Where struct storage_settings has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_settings"
    SIZE_BYTES: ClassVar[int] = 600
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQII64s512s")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "stage_ns": (0, 8),
        "total_ns": (8, 8),
        "own_tgid": (16, 4),
        "reserved": (20, 4),
        "sample": (24, 64),
        "call_of": (88, 512),
    }


class StorageCallKey(NamedTuple):
    """struct storage_call_key."""

    cgroup_id: int
    device: int
    call: int


class StorageCallKeyLayout:
    """Where struct storage_call_key has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_call_key"
    SIZE_BYTES: ClassVar[int] = 16
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QII")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "cgroup_id": (0, 8),
        "device": (8, 4),
        "call": (12, 4),
    }


class StorageCallHistogram(NamedTuple):
    """struct storage_call_histogram."""

    sum_ns: int
    zeros: int
    buckets: bytes


class StorageCallHistogramLayout:
    """Where struct storage_call_histogram has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_call_histogram"
    SIZE_BYTES: ClassVar[int] = 1040
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQ1024s")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "sum_ns": (0, 8),
        "zeros": (8, 8),
        "buckets": (16, 1024),
    }


class StorageCallErrorKey(NamedTuple):
    """struct storage_call_error_key."""

    cgroup_id: int
    device: int
    call: int
    error: int
    reserved: int


class StorageCallErrorKeyLayout:
    """Where struct storage_call_error_key has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_call_error_key"
    SIZE_BYTES: ClassVar[int] = 24
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QIIiI")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "key": (0, 16),
        "error": (16, 4),
        "reserved": (20, 4),
    }


class StorageOperationCounters(NamedTuple):
    """struct storage_operation_counters."""

    tracked: int
    finished: int
    abandoned: int
    collided: int
    reported: int
    lost: int
    overflowed: int
    too_long: int
    errors: int
    lost_errors: int
    lost_asynchronous: int


class StorageOperationCountersLayout:
    """Where struct storage_operation_counters has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_operation_counters"
    SIZE_BYTES: ClassVar[int] = 88
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQQQQQQ")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "tracked": (0, 8),
        "finished": (8, 8),
        "abandoned": (16, 8),
        "collided": (24, 8),
        "reported": (32, 8),
        "lost": (40, 8),
        "overflowed": (48, 8),
        "too_long": (56, 8),
        "errors": (64, 8),
        "lost_errors": (72, 8),
        "lost_asynchronous": (80, 8),
    }
