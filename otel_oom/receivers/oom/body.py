"""A kill as one line that a person can read: the body of its log record."""

from __future__ import annotations

import functools

from otel_oom.receivers.oom import limit, process_tree, records
from otel_oom.receivers.oom.kills import ALREADY_DYING, Kill

_MIB = 1024 * 1024
_MOST_KEPT = 1024
_NAMES = str.maketrans({code: f"\\x{code:02x}" for code in (*range(32), 127)})


def line(kill: Kill) -> str:
    """The line, whatever bytes the processes' names hold."""
    mark, verb = kill.mark, "killed"
    if kill.role == ALREADY_DYING:
        verb = "let die (it was dying already)"
    name, raw = _name(mark.victim.comm), mark.raw
    return (
        f"OOM: {verb} {name} (pid {raw.tgid}) {_short_of(kill)}; it had "
        f"anon {_mib(raw.anon_pages)}, file {_kept_mib(raw.file_pages)}, "
        f"shmem {_kept_mib(raw.shmem_pages)}; {_asked(kill)}"
    )


def mib(size_bytes: int) -> str:
    """A size for a person."""
    return f"{size_bytes / _MIB:.1f} MiB"


def _mib(pages: int) -> str:
    return mib(pages * process_tree.PAGE_BYTES)


_kept_mib = functools.lru_cache(_MOST_KEPT)(_mib)
"""For what comes again from kill to kill."""


def _short_of(kill: Kill) -> str:
    owner = kill.limit.owner
    if owner is not None:
        path = printable(limit.owner_path(kill.mark, kill.limit) or "")
        return f"at the limit {_kept_mib(owner.max_pages)} of {path}"
    what = {"none": "because the host was short of memory", "": "for want of memory"}
    return what.get(kill.limit.constraint, f"for want of memory ({kill.limit.constraint})")


def _asked(kill: Kill) -> str:
    if kill.mark.trigger_is_victim:
        return "it had asked for more itself"
    if not kill.mark.trigger.tgid:
        return "who asked for more is not known"
    name = _name(kill.mark.trigger.comm)
    return f"{name} (pid {kill.mark.trigger.tgid}) had asked for more"


@functools.lru_cache(_MOST_KEPT)
def _name(comm: bytes) -> str:
    return printable(records.text(comm))


@functools.lru_cache(_MOST_KEPT)
def printable(text: str) -> str:
    """A name without what a terminal would obey."""
    return text if text.isprintable() else text.translate(_NAMES)
