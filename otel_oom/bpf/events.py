"""Python's view of bpf/oom.h, made by tools/make_events.py from BTF: do not edit.

A struct at the start of another is flattened into it. Arrays and other nested structs stay
bytes, for the reader to unpack when it needs them.
"""

from __future__ import annotations

import enum
import struct
from typing import ClassVar, NamedTuple


class OomKind(enum.IntEnum):
    """enum oom_kind."""

    MARK = 1
    DELIVERED = 2
    EXITED = 3


class OomMarkFlag(enum.IntFlag):
    """enum oom_mark_flag."""

    KILLED = 1
    KILLED_KNOWN = 2
    HAS_VICTIM = 4
    HAS_DECISION = 8
    TRIGGER_KTHREAD = 16
    PATH_CUT = 32
    TRIGGER_PATH_CUT = 64
    UNTRACKED = 128
    AT_DELIVERY = 256
    MEMCG_IS_V1 = 512
    HAS_MM = 1024


class OomMemcgFlag(enum.IntFlag):
    """enum oom_memcg_flag."""

    GROUP = 1
    LOCKED = 2


class OomDeliveredFlag(enum.IntFlag):
    """enum oom_delivered_flag."""

    VARIABLES_UNREADABLE = 1
    VARIABLES_MORE = 2
    VARIABLE_LONG = 4


class OomHeader(NamedTuple):
    """struct oom_header."""

    boot_ns: int
    start_boot_ns: int
    kind: int
    tgid: int


class OomHeaderLayout:
    """Where struct oom_header has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "oom_header"
    SIZE_BYTES: ClassVar[int] = 24
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQII")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "boot_ns": (0, 8),
        "start_boot_ns": (8, 8),
        "kind": (16, 4),
        "tgid": (20, 4),
    }


class OomProcess(NamedTuple):
    """struct oom_process."""

    start_boot_ns: int
    rss_pages: int
    tgid: int
    vpid: int
    comm: bytes


class OomProcessLayout:
    """Where struct oom_process has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "oom_process"
    SIZE_BYTES: ClassVar[int] = 40
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQII16s")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "start_boot_ns": (0, 8),
        "rss_pages": (8, 8),
        "tgid": (16, 4),
        "vpid": (20, 4),
        "comm": (24, 16),
    }


class OomMemcg(NamedTuple):
    """struct oom_memcg."""

    id: int
    usage_pages: int
    max_pages: int
    peak_pages: int
    local_oom_kills: int
    group_kills: int
    level: int
    flags: int


class OomMemcgLayout:
    """Where struct oom_memcg has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "oom_memcg"
    SIZE_BYTES: ClassVar[int] = 56
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQII")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "id": (0, 8),
        "usage_pages": (8, 8),
        "max_pages": (16, 8),
        "peak_pages": (24, 8),
        "local_oom_kills": (32, 8),
        "group_kills": (40, 8),
        "level": (48, 4),
        "flags": (52, 4),
    }


class OomMark(NamedTuple):
    """struct oom_mark."""

    boot_ns: int
    start_boot_ns: int
    kind: int
    tgid: int
    anon_pages: int
    file_pages: int
    shmem_pages: int
    swap_pages: int
    virtual_pages: int
    page_tables_bytes: int
    decision: int
    decision_memcg_id: int
    decision_total_pages: int
    decision_points: int
    decision_constraint: int
    decision_order: int
    decision_gfp: int
    flags: int
    pid: int
    uid: int
    trigger_tid: int
    score_adj: int
    memcgs: int
    ancestors: int
    trigger_ancestors: int
    victim_path_len: int
    trigger_path_len: int
    tail_len: int
    victim: bytes
    trigger: bytes


class OomMarkLayout:
    """Where struct oom_mark has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "oom_mark"
    SIZE_BYTES: ClassVar[int] = 240
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQIIQQQQQQQQQqIiIIIIIiIIIIII40s40s")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "header": (0, 24),
        "anon_pages": (24, 8),
        "file_pages": (32, 8),
        "shmem_pages": (40, 8),
        "swap_pages": (48, 8),
        "virtual_pages": (56, 8),
        "page_tables_bytes": (64, 8),
        "decision": (72, 8),
        "decision_memcg_id": (80, 8),
        "decision_total_pages": (88, 8),
        "decision_points": (96, 8),
        "decision_constraint": (104, 4),
        "decision_order": (108, 4),
        "decision_gfp": (112, 4),
        "flags": (116, 4),
        "pid": (120, 4),
        "uid": (124, 4),
        "trigger_tid": (128, 4),
        "score_adj": (132, 4),
        "memcgs": (136, 4),
        "ancestors": (140, 4),
        "trigger_ancestors": (144, 4),
        "victim_path_len": (148, 4),
        "trigger_path_len": (152, 4),
        "tail_len": (156, 4),
        "victim": (160, 40),
        "trigger": (200, 40),
    }


class OomDelivered(NamedTuple):
    """struct oom_delivered."""

    boot_ns: int
    start_boot_ns: int
    kind: int
    tgid: int
    args_len: int
    args_total: int
    variables_len: int
    flags: int


class OomDeliveredLayout:
    """Where struct oom_delivered has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "oom_delivered"
    SIZE_BYTES: ClassVar[int] = 40
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQIIIIII")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "header": (0, 24),
        "args_len": (24, 4),
        "args_total": (28, 4),
        "variables_len": (32, 4),
        "flags": (36, 4),
    }


class OomExited(NamedTuple):
    """struct oom_exited."""

    boot_ns: int
    start_boot_ns: int
    kind: int
    tgid: int
    exit_code: int
    reserved: int


class OomExitedLayout:
    """Where struct oom_exited has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "oom_exited"
    SIZE_BYTES: ClassVar[int] = 32
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQIIII")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "header": (0, 24),
        "exit_code": (24, 4),
        "reserved": (28, 4),
    }


class OomCounters(NamedTuple):
    """struct oom_counters."""

    marks: int
    repeats: int
    already_dying: int
    untracked: int
    lost_marks: int
    lost_delivered: int
    lost_exited: int
    decisions: int
    kills: int
    unknown: int


class OomCountersLayout:
    """Where struct oom_counters has its fields, in bytes: (offset, size)."""

    STRUCT: ClassVar[str] = "oom_counters"
    SIZE_BYTES: ClassVar[int] = 80
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQQQQQ")
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {
        "marks": (0, 8),
        "repeats": (8, 8),
        "already_dying": (16, 8),
        "untracked": (24, 8),
        "lost_marks": (32, 8),
        "lost_delivered": (40, 8),
        "lost_exited": (48, 8),
        "decisions": (56, 8),
        "kills": (64, 8),
        "unknown": (72, 8),
    }
