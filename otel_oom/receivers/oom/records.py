r"""Ring records as Python values: decoded once, checked, and in the kernel's own terms.

Bytes from the ring are not trusted: a record that is too short, too long or of no known kind
raises `BadRecord`, and whoever drains the ring counts it. Kernel strings may hold any byte
but NUL; what is not UTF-8 is kept as `\\xNN`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from otel_oom import errors
from otel_oom.bpf import events
from otel_oom.bpf.events import OomMark, OomMarkFlag, OomMemcg, OomProcess

_HEADER = events.OomHeaderLayout.FORMAT
_MARK = events.OomMarkLayout.FORMAT
_DELIVERED = events.OomDeliveredLayout.FORMAT
_EXITED = events.OomExitedLayout.FORMAT
_PROCESS = events.OomProcessLayout.FORMAT
_MEMCG = events.OomMemcgLayout.FORMAT

Identity = tuple[int, int]
"""(tgid, start of the leader in boot nanoseconds): a process, whatever pids come again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """The kernel marked a victim."""

    raw: OomMark
    victim: OomProcess
    trigger: OomProcess
    ancestors: tuple[OomProcess, ...]
    trigger_ancestors: tuple[OomProcess, ...]
    memcgs: tuple[OomMemcg, ...]
    victim_path: tuple[str, ...]
    trigger_path: tuple[str, ...]

    @property
    def identity(self) -> Identity:
        """Who was marked."""
        return self.raw.tgid, self.raw.start_boot_ns

    @property
    def trigger_is_victim(self) -> bool:
        """Whether the process that asked for memory is the one that dies."""
        return self.trigger.tgid == self.raw.tgid

    def has(self, flag: OomMarkFlag) -> bool:
        """Whether the kernel side set a flag."""
        return bool(self.raw.flags & flag)


@dataclasses.dataclass(frozen=True, slots=True)
class Delivered:
    """SIGKILL reached a victim. `args` is its command line, cut if `args_total` is larger."""

    identity: Identity
    boot_ns: int
    args: tuple[str, ...]
    args_total_bytes: int
    is_cut: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Exited:
    """A victim's last thread is gone. `exit_code` is the status that wait(2) gives."""

    identity: Identity
    boot_ns: int
    exit_code: int


Record = Mark | Delivered | Exited


def decode(record: bytes) -> Record:
    """One ring record; `BadRecord` if no program of ours can have written it."""
    if len(record) < _HEADER.size:
        raise errors.BadRecord(f"a ring record of {len(record)} bytes has no room for its header")
    _, _, kind, _ = _HEADER.unpack_from(record)
    try:
        decoder = _DECODERS[kind]
    except KeyError:
        raise errors.BadRecord(f"a ring record is of the unknown kind {kind}") from None
    return decoder(record)


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
        raw=raw,
        victim=OomProcess._make(_PROCESS.unpack(raw.victim)),
        trigger=OomProcess._make(_PROCESS.unpack(raw.trigger)),
        ancestors=_processes(raw.ancestor, raw.ancestors),
        trigger_ancestors=_processes(raw.trigger_ancestor, raw.trigger_ancestors),
        memcgs=_memcgs(raw.memcg, raw.memcgs),
        victim_path=_path(tail[: raw.victim_path_len]),
        trigger_path=_path(tail[raw.victim_path_len :]),
    )


def _delivered(record: bytes) -> Delivered:
    _need(record, _DELIVERED.size)
    raw = events.OomDelivered._make(_DELIVERED.unpack_from(record))
    tail = record[_DELIVERED.size :]
    if raw.args_len != len(tail):
        raise errors.BadRecord(f"a command line of {raw.args_len} bytes has {len(tail)}")
    return Delivered(
        identity=(raw.tgid, raw.start_boot_ns),
        boot_ns=raw.boot_ns,
        args=arguments(tail),
        args_total_bytes=raw.args_total,
        is_cut=raw.args_total > raw.args_len,
    )


def _exited(record: bytes) -> Exited:
    if len(record) != _EXITED.size:
        raise errors.BadRecord(f"an exit has {_EXITED.size} bytes, this one {len(record)}")
    raw = events.OomExited._make(_EXITED.unpack(record))
    return Exited((raw.tgid, raw.start_boot_ns), raw.boot_ns, raw.exit_code)


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
    return tuple(part.decode("utf-8", "backslashreplace") for part in parts)


def _need(record: bytes, size: int) -> None:
    if len(record) < size:
        raise errors.BadRecord(f"a ring record of {len(record)} bytes is cut; it needs {size}")


def _processes(raw: bytes, used: int) -> tuple[OomProcess, ...]:
    end = min(used * _PROCESS.size, len(raw))
    return tuple(OomProcess._make(found) for found in _PROCESS.iter_unpack(raw[:end]))


def _memcgs(raw: bytes, used: int) -> tuple[OomMemcg, ...]:
    end = min(used * _MEMCG.size, len(raw))
    return tuple(OomMemcg._make(found) for found in _MEMCG.iter_unpack(raw[:end]))


def _path(raw: bytes) -> tuple[str, ...]:
    """Names from the leaf up, each with its NUL, as components from the root down."""
    if not raw:
        return ()
    names = raw.removesuffix(b"\0").split(b"\0")
    return tuple(name.decode("utf-8", "backslashreplace") for name in reversed(names))
