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
from otel_oom.bpf.events import OomDelivered, OomMark, OomMarkFlag, OomMemcg, OomProcess

_KIND = slice(
    events.OomHeaderLayout.OFFSETS["kind"][0], sum(events.OomHeaderLayout.OFFSETS["kind"])
)
_KILLED = OomMarkFlag.KILLED.value
_KILLED_KNOWN = OomMarkFlag.KILLED_KNOWN.value
_HEADER_BYTES = events.OomHeaderLayout.SIZE_BYTES
_MARK = events.OomMarkLayout.FORMAT
_DELIVERED = events.OomDeliveredLayout.FORMAT
_EXITED = events.OomExitedLayout.FORMAT
_PROCESS = events.OomProcessLayout.FORMAT
_MEMCG = events.OomMemcgLayout.FORMAT

# As a named tuple's own constructor and `_make` do, which are not in C; a struct has always
# as many fields as its tuple. It makes decoding a tenth faster.
_new = tuple.__new__
_new_process = functools.partial(_new, OomProcess)
_new_memcg = functools.partial(_new, OomMemcg)

_MOST_KEPT = 256
"""Kills come in storms: of one cgroup, below the same ancestors, under the same limit."""

Identity = tuple[int, int]
"""(tgid, start of the leader in boot nanoseconds): a process, whatever pids come again."""


class Mark(NamedTuple):
    """The kernel marked a victim, who is `identity`.

    Ancestors stay as they came, for they differ little from kill to kill.
    """

    raw: OomMark
    identity: Identity
    victim: OomProcess
    trigger: OomProcess
    memcgs: tuple[OomMemcg, ...]
    raw_ancestors: bytes
    raw_trigger_ancestors: bytes
    victim_path: tuple[str, ...]
    trigger_path: tuple[str, ...]

    @property
    def ancestors(self) -> tuple[OomProcess, ...]:
        """The victim's, its parent first."""
        return processes(self.raw_ancestors)

    @property
    def trigger_ancestors(self) -> tuple[OomProcess, ...]:
        """The trigger's, its parent first."""
        return processes(self.raw_trigger_ancestors)

    @property
    def trigger_is_victim(self) -> bool:
        """Whether the process that asked for memory is the one that dies."""
        return self.trigger.tgid == self.raw.tgid

    @property
    def was_dying(self) -> bool:
        """Whether the kernel is known to have killed nobody: the process was dying anyway."""
        return self.raw.flags & (_KILLED | _KILLED_KNOWN) == _KILLED_KNOWN

    def has(self, flag: OomMarkFlag) -> bool:
        """Whether the kernel side set a flag."""
        return int.__and__(self.raw.flags, flag) != 0  # a flag's own `&` takes ten times as long


class Delivered(NamedTuple):
    """SIGKILL reached a victim. `raw_args` is its command line, or the start of one `is_cut`.

    `raw_variables` are those of its environment that say who it is; `flags` say what lacks.
    """

    identity: Identity
    boot_ns: int
    raw_args: bytes
    args_total_bytes: int
    is_cut: bool
    raw_variables: bytes
    flags: int

    @property
    def args(self) -> tuple[str, ...]:
        """The command line's arguments."""
        return arguments(self.raw_args)


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
    decoder = _DECODERS.get(record[_KIND])
    if decoder is None:
        kind = int.from_bytes(record[_KIND], "little")
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
    raw = _new(OomMark, _MARK.unpack_from(record))
    ancestors_at = _MARK.size + raw.memcgs * _MEMCG.size
    trigger_ancestors_at = ancestors_at + raw.ancestors * _PROCESS.size
    path_at = trigger_ancestors_at + raw.trigger_ancestors * _PROCESS.size
    trigger_path_at = path_at + raw.victim_path_len
    end = trigger_path_at + raw.trigger_path_len
    if not end == len(record) == _MARK.size + raw.tail_len:
        raise errors.BadRecord(
            f"a mark of {len(record)} bytes says that its tail has {raw.tail_len}, "
            f"of parts that take {end - _MARK.size}"
        )
    return _new(
        Mark,
        (
            raw,
            (raw.tgid, raw.start_boot_ns),
            _new(OomProcess, _PROCESS.unpack(raw.victim)),
            _new(OomProcess, _PROCESS.unpack(raw.trigger)),
            tuple(map(_new_memcg, _MEMCG.iter_unpack(record[_MARK.size : ancestors_at]))),
            record[ancestors_at:trigger_ancestors_at],
            record[trigger_ancestors_at:path_at],
            _path(record[path_at:trigger_path_at]),
            _path(record[trigger_path_at:]),
        ),
    )


def _delivered(record: bytes) -> Delivered:
    _need(record, _DELIVERED.size)
    raw = _new(OomDelivered, _DELIVERED.unpack_from(record))
    tail = record[_DELIVERED.size :]
    if raw.args_len + raw.variables_len != len(tail):
        raise errors.BadRecord(
            f"a delivery's tail of {len(tail)} bytes has {raw.args_len} of a command line "
            f"and {raw.variables_len} of variables"
        )
    identity, is_cut = (raw.tgid, raw.start_boot_ns), raw.args_total > raw.args_len
    args, variables = tail[: raw.args_len], tail[raw.args_len :]
    fields = (identity, raw.boot_ns, args, raw.args_total, is_cut, variables, raw.flags)
    return _new(Delivered, fields)


def _exited(record: bytes) -> Exited:
    if len(record) != _EXITED.size:
        raise errors.BadRecord(f"an exit has {_EXITED.size} bytes, this one {len(record)}")
    boot_ns, start_boot_ns, _, tgid, exit_code, _ = _EXITED.unpack(record)
    return _new(Exited, ((tgid, start_boot_ns), boot_ns, exit_code))


_DECODERS: dict[bytes, Callable[[bytes], Record]] = {
    kind.to_bytes(4, "little"): decoder
    for kind, decoder in (
        (events.OomKind.MARK, _mark),
        (events.OomKind.DELIVERED, _delivered),
        (events.OomKind.EXITED, _exited),
    )
}


def arguments(raw: bytes) -> tuple[str, ...]:
    """A command line as /proc/PID/cmdline has it: NUL after each argument."""
    if not raw:
        return ()
    return tuple(raw.rstrip(b"\0").decode("utf-8", "backslashreplace").split("\0"))


def _need(record: bytes, size: int) -> None:
    if len(record) < size:
        raise errors.BadRecord(f"a ring record of {len(record)} bytes is cut; it needs {size}")


def processes(raw: bytes) -> tuple[OomProcess, ...]:
    """Processes as they stand in a mark, one after the other."""
    return tuple(map(_new_process, _PROCESS.iter_unpack(raw)))


@functools.lru_cache(_MOST_KEPT)
def _path(raw: bytes) -> tuple[str, ...]:
    """Names from the leaf up, each with its NUL, as components from the root down."""
    if not raw:
        return ()
    names = raw.removesuffix(b"\0").split(b"\0")
    return tuple(name.decode("utf-8", "backslashreplace") for name in reversed(names))
