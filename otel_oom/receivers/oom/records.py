r"""Ring records as Python values: decoded once, checked, and in the kernel's own terms.

Bytes from the ring are not trusted: a record that is too short, too long or of no known kind
raises `BadRecord`, and whoever drains the ring counts it. Kernel strings may hold any byte
but NUL; what is not UTF-8 is kept as `\\xNN`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from otel_oom import errors
from otel_oom.bpf import events
from otel_oom.bpf.events import OomMark, OomMarkFlag, OomMemcg, OomProcess

_KIND_OFFSET, _ = events.OomHeaderLayout.OFFSETS["kind"]
_HEADER_BYTES = events.OomHeaderLayout.SIZE_BYTES
_MARK = events.OomMarkLayout.FORMAT
_DELIVERED = events.OomDeliveredLayout.FORMAT
_EXITED = events.OomExitedLayout.FORMAT
_PROCESS = events.OomProcessLayout.FORMAT
_MEMCG = events.OomMemcgLayout.FORMAT

_MOST_KEPT = 256
"""Kills come in storms: of one cgroup, below the same ancestors, under the same limit."""

Identity = tuple[int, int]
"""(tgid, start of the leader in boot nanoseconds): a process, whatever pids come again."""


class Mark(NamedTuple):
    """The kernel marked a victim, who is `identity`."""

    raw: OomMark
    identity: Identity
    victim: OomProcess
    trigger: OomProcess
    ancestors: tuple[OomProcess, ...]
    trigger_ancestors: tuple[OomProcess, ...]
    memcgs: tuple[OomMemcg, ...]
    victim_path: tuple[str, ...]
    trigger_path: tuple[str, ...]

    @property
    def trigger_is_victim(self) -> bool:
        """Whether the process that asked for memory is the one that dies."""
        return self.trigger.tgid == self.raw.tgid

    def has(self, flag: OomMarkFlag) -> bool:
        """Whether the kernel side set a flag."""
        return int.__and__(self.raw.flags, flag) != 0  # a flag's own `&` takes ten times as long


class Delivered(NamedTuple):
    """SIGKILL reached a victim. `args` is its command line, cut if `args_total` is larger."""

    identity: Identity
    boot_ns: int
    args: tuple[str, ...]
    args_total_bytes: int
    is_cut: bool


class Exited(NamedTuple):
    """A victim's last thread is gone. `exit_code` is the status that wait(2) gives."""

    identity: Identity
    boot_ns: int
    exit_code: int


Record = Mark | Delivered | Exited


def decode(record: bytes) -> Record:
    """One ring record; `BadRecord` if no program of ours can have written it."""
    if len(record) < _HEADER_BYTES:
        raise errors.BadRecord(f"a ring record of {len(record)} bytes has no room for its header")
    kind = int.from_bytes(record[_KIND_OFFSET : _KIND_OFFSET + 4], "little")
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise errors.BadRecord(f"a ring record is of the unknown kind {kind}")
    return decoder(record)


@functools.lru_cache(_MOST_KEPT)
def text(raw: bytes) -> str:
    """A kernel string up to its NUL."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def path_text(names: tuple[str, ...]) -> str:
    """A cgroup path from its components, root first."""
    return "/" + "/".join(names)


def _mark(record: bytes) -> Mark:
    _need(record, _MARK.size)
    raw = OomMark._make(_MARK.unpack_from(record))
    tail = record[_MARK.size :]
    if raw.paths_len != len(tail) or raw.victim_path_len > raw.paths_len:
        raise errors.BadRecord(
            f"a mark says {raw.victim_path_len} of {raw.paths_len} bytes of paths "
            f"and has {len(tail)}"
        )
    return Mark(
        raw,
        (raw.tgid, raw.start_boot_ns),
        OomProcess._make(_PROCESS.unpack(raw.victim)),
        OomProcess._make(_PROCESS.unpack(raw.trigger)),
        _processes(raw.ancestor[: raw.ancestors * _PROCESS.size]),
        _processes(raw.trigger_ancestor[: raw.trigger_ancestors * _PROCESS.size]),
        tuple(map(OomMemcg._make, _MEMCG.iter_unpack(raw.memcg[: raw.memcgs * _MEMCG.size]))),
        _path(tail[: raw.victim_path_len]),
        _path(tail[raw.victim_path_len :]),
    )


def _delivered(record: bytes) -> Delivered:
    _need(record, _DELIVERED.size)
    boot_ns, start_boot_ns, _, tgid, args_bytes, total_bytes = _DELIVERED.unpack_from(record)
    tail = record[_DELIVERED.size :]
    if args_bytes != len(tail):
        raise errors.BadRecord(f"a command line of {args_bytes} bytes has {len(tail)}")
    args, is_cut = arguments(tail), total_bytes > args_bytes
    return Delivered((tgid, start_boot_ns), boot_ns, args, total_bytes, is_cut)


def _exited(record: bytes) -> Exited:
    if len(record) != _EXITED.size:
        raise errors.BadRecord(f"an exit has {_EXITED.size} bytes, this one {len(record)}")
    boot_ns, start_boot_ns, _, tgid, exit_code, _ = _EXITED.unpack(record)
    return Exited((tgid, start_boot_ns), boot_ns, exit_code)


_DECODERS: dict[int, Callable[[bytes], Record]] = {
    events.OomKind.MARK: _mark,
    events.OomKind.DELIVERED: _delivered,
    events.OomKind.EXITED: _exited,
}


def arguments(raw: bytes) -> tuple[str, ...]:
    """A command line as /proc/PID/cmdline has it: NUL after each argument."""
    if not raw:
        return ()
    parts = raw.rstrip(b"\0").split(b"\0")
    return tuple([part.decode("utf-8", "backslashreplace") for part in parts])


def _need(record: bytes, size: int) -> None:
    if len(record) < size:
        raise errors.BadRecord(f"a ring record of {len(record)} bytes is cut; it needs {size}")


@functools.lru_cache(_MOST_KEPT)
def _processes(raw: bytes) -> tuple[OomProcess, ...]:
    return tuple(map(OomProcess._make, _PROCESS.iter_unpack(raw)))


@functools.lru_cache(_MOST_KEPT)
def _path(raw: bytes) -> tuple[str, ...]:
    """Names from the leaf up, each with its NUL, as components from the root down."""
    if not raw:
        return ()
    names = raw.removesuffix(b"\0").split(b"\0")
    return tuple(name.decode("utf-8", "backslashreplace") for name in reversed(names))
