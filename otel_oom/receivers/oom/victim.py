"""What /proc still tells of a victim when its kill was read in the kernel's log.

The victim may be gone by then, and its pid another's: what is read counts only if the process was
there before the kill. Its memory counts only if it still had it after the reading.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_NS_PER_S = 10**9
_STARTED = 19  # in /proc/PID/stat, behind the name (proc(5))


class Victim(NamedTuple):
    """`cgroup` is its memory cgroup, None if unknown; `start_boot_ns` is of the clock's ticks."""

    pid: int
    tgid: int
    parent_pid: int
    vpid: int
    start_boot_ns: int
    cgroup: str | None


def read(proc: str, pid: int, killed_boot_ns: int) -> Victim | None:
    """The process that has a thread `pid`; None if it is gone or younger than the kill."""
    try:
        status = _fields(_read(f"{proc}/{pid}/status"))
        tgid = int(status[b"Tgid"])
        stat = _read(f"{proc}/{tgid}/stat").rpartition(b")")[2].split()
        start_boot_ns = int(stat[_STARTED]) * _NS_PER_S // _TICKS_PER_S
        cgroups = _read(f"{proc}/{pid}/cgroup")
        parent_pid = int(status[b"PPid"])
        vpid = int(status.get(b"NStgid", status[b"Tgid"]).split()[-1])
    except (OSError, KeyError, ValueError, IndexError):
        return None
    if start_boot_ns > killed_boot_ns:
        return None
    return Victim(pid, tgid, parent_pid, vpid, start_boot_ns, _memory_cgroup(cgroups))


def has_memory(proc: str, pid: int) -> bool:
    """Whether it has not let go of its memory yet."""
    try:
        return not _read(f"{proc}/{pid}/statm").startswith(b"0 ")
    except OSError:
        return False


def _memory_cgroup(raw: bytes) -> str | None:
    """Of v1's memory hierarchy, else of v2 (cgroups(7)); None for one that is outside our view."""
    unified = None
    for line in raw.decode("utf-8", "backslashreplace").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _whole(path)
        if not controllers:
            unified = path
    return _whole(unified) if unified is not None else None


def _whole(path: str) -> str | None:
    """A path from the root; a cgroup that is gone already has that behind its name."""
    return None if path.startswith("/..") else path.removesuffix(" (deleted)")


def _fields(raw: bytes) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in raw.splitlines())
    return {key: value.strip() for key, _, value in pairs}


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536)
    finally:
        os.close(fd)
