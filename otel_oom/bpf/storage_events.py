"""Python's view of bpf/storage.h, made by tools/make_events.py from BTF: do not edit.

A struct at the start of another is flattened into it. Arrays and other nested structs stay
bytes, for the reader to unpack when it needs them.
"""

from __future__ import annotations

import enum
import struct
from typing import ClassVar, NamedTuple


class StorageOperation(enum.IntEnum):
    """enum storage_operation."""

    READ = 0
    WRITE = 1
    FLUSH = 2
    DISCARD = 3
    SECURE_ERASE = 4
    WRITE_ZEROES = 5
    ZONE_APPEND = 6
    OTHER = 7


class StorageRequestFlag(enum.IntFlag):
    """enum storage_request_flag."""

    SYNC = 1
    META = 2
    FUA = 4
    PREFLUSH = 8
    READAHEAD = 16
    BACKGROUND = 32
    MERGED = 64
    AFTER_FLUSH = 128


class StorageKey(NamedTuple):
    """struct storage_key."""

    cgroup_id: int
    device: int
    operation: int


class StorageKeyLayout:
    """Where struct storage_key has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_key"
    SIZE_BYTES: ClassVar[int] = 16
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QII")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "cgroup_id": (0, 8),
        "device": (8, 4),
        "operation": (12, 4),
    }


class StorageSeries(NamedTuple):
    """struct storage_series."""

    requests: int
    data_bytes: int
    merged: int
    queue_sum_ns: int
    device_sum_ns: int
    queue_zeros: int
    device_zeros: int
    reserved: bytes
    queue_buckets: bytes
    device_buckets: bytes


class StorageSeriesLayout:
    """Where struct storage_series has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_series"
    SIZE_BYTES: ClassVar[int] = 2112
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQQQQII16s1024s1024s")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "requests": (0, 8),
        "data_bytes": (8, 8),
        "merged": (16, 8),
        "queue_sum_ns": (24, 8),
        "device_sum_ns": (32, 8),
        "queue_zeros": (40, 4),
        "device_zeros": (44, 4),
        "reserved": (48, 16),
        "queue_buckets": (64, 1024),
        "device_buckets": (1088, 1024),
    }


class StorageCached(NamedTuple):
    """struct storage_cached."""

    owner: int
    device: int
    operation: int
    slot: int
    reserved: bytes


class StorageCachedLayout:
    """Where struct storage_cached has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_cached"
    SIZE_BYTES: ClassVar[int] = 32
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QIII12s")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "owner": (0, 8),
        "device": (8, 4),
        "operation": (12, 4),
        "slot": (16, 4),
        "reserved": (20, 12),
    }


class StorageErrorKey(NamedTuple):
    """struct storage_error_key."""

    cgroup_id: int
    device: int
    operation: int
    status: int
    reserved: int


class StorageErrorKeyLayout:
    """Where struct storage_error_key has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_error_key"
    SIZE_BYTES: ClassVar[int] = 24
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QIIiI")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "key": (0, 16),
        "status": (16, 4),
        "reserved": (20, 4),
    }


class StorageRequest(NamedTuple):
    """struct storage_request."""

    start_boot_ns: int
    issue_boot_ns: int
    complete_boot_ns: int
    cgroup_id: int
    sector: int
    inode: int
    inode_device: int
    device: int
    operation: int
    flags: int
    data_bytes: int
    status: int


class StorageRequestLayout:
    """Where struct storage_request has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_request"
    SIZE_BYTES: ClassVar[int] = 72
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQIIIIIi")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "start_boot_ns": (0, 8),
        "issue_boot_ns": (8, 8),
        "complete_boot_ns": (16, 8),
        "cgroup_id": (24, 8),
        "sector": (32, 8),
        "inode": (40, 8),
        "inode_device": (48, 4),
        "device": (52, 4),
        "operation": (56, 4),
        "flags": (60, 4),
        "data_bytes": (64, 4),
        "status": (68, 4),
    }


class StorageCounters(NamedTuple):
    """struct storage_counters."""

    taken: int
    errors: int
    overflowed: int
    no_device: int
    passthrough: int
    sequence_ends: int
    partial: int
    no_start: int
    after_flush: int
    no_issue: int
    never_issued: int
    backwards: int
    too_long: int
    slow: int
    lost_slow: int
    lost_errors: int
    lost_issues: int
    nested: int
    running: int
    reserved: bytes


class StorageCountersLayout:
    """Where struct storage_counters has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_counters"
    SIZE_BYTES: ClassVar[int] = 192
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQQQQQQQQQQQQQQ40s")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "taken": (0, 8),
        "errors": (8, 8),
        "overflowed": (16, 8),
        "no_device": (24, 8),
        "passthrough": (32, 8),
        "sequence_ends": (40, 8),
        "partial": (48, 8),
        "no_start": (56, 8),
        "after_flush": (64, 8),
        "no_issue": (72, 8),
        "never_issued": (80, 8),
        "backwards": (88, 8),
        "too_long": (96, 8),
        "slow": (104, 8),
        "lost_slow": (112, 8),
        "lost_errors": (120, 8),
        "lost_issues": (128, 8),
        "nested": (136, 8),
        "running": (144, 8),
        "reserved": (152, 40),
    }


class StorageCpu(NamedTuple):
    """struct storage_cpu."""

    taken: int
    errors: int
    overflowed: int
    no_device: int
    passthrough: int
    sequence_ends: int
    partial: int
    no_start: int
    after_flush: int
    no_issue: int
    never_issued: int
    backwards: int
    too_long: int
    slow: int
    lost_slow: int
    lost_errors: int
    lost_issues: int
    nested: int
    running: int
    reserved: bytes
    cached: bytes


class StorageCpuLayout:
    """Where struct storage_cpu has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_cpu"
    SIZE_BYTES: ClassVar[int] = 4288
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQQQQQQQQQQQQQQ40s4096s")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "counters": (0, 192),
        "cached": (192, 4096),
    }


class StorageSettings(NamedTuple):
    """struct storage_settings."""

    stage_ns: int
    total_ns: int
    least_ns: int
    queue_stats: int
    io_stat: int
    flush_sequence: int
    slots: int
    zone_append: int


class StorageSettingsLayout:
    """Where struct storage_settings has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "storage_settings"
    SIZE_BYTES: ClassVar[int] = 48
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQQQIIII")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "stage_ns": (0, 8),
        "total_ns": (8, 8),
        "least_ns": (16, 8),
        "queue_stats": (24, 8),
        "io_stat": (32, 4),
        "flush_sequence": (36, 4),
        "slots": (40, 4),
        "zone_append": (44, 4),
    }
