"""What user space adds at a mark: the cgroup's memory by kind, its processes, the pressure.

These are read within a millisecond or so of the mark, while the victim usually lives. If its
exit turns out to be older than the reading, the numbers are of after the kill, and are left
out with that reason. A storm of kills under one limit shares one reading of the processes.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import time

from otel_oom.receivers.oom import cgroups

_AVG10 = re.compile(r"^(some|full) avg10=([\d.]+)", re.MULTILINE)
_SHARED_FOR_NS = 50_000_000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass(frozen=True, slots=True)
class Sibling:
    """A process under the limit. `memory` is its resident bytes."""

    pid: int
    parent_pid: int
    name: str
    memory: int


@dataclasses.dataclass(frozen=True, slots=True)
class Pressure:
    """`avg10` of some and full, in percent; `reason` says why there is none."""

    some: float | None = None
    full: float | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """All that was read at one mark, and when."""

    read_boot_ns: int
    memory: dict[str, int]
    memory_reason: str
    siblings: tuple[Sibling, ...]
    cgroup_pressure: Pressure
    host_pressure: Pressure
    command_line: bytes
    init_command_line: bytes = b""


class Reader:
    """Reads contexts; `root` has the host's /proc and /sys, `cap` bounds the siblings."""

    def __init__(self, root: pathlib.Path, hierarchy: cgroups.Hierarchy, cap: int) -> None:
        self._proc = str(root / "proc")
        self._hierarchy = hierarchy
        self._cap = cap
        self._shared: tuple[str, int, tuple[Sibling, ...]] = ("", 0, ())

    def read(
        self, victim_path: str, limit_path: str | None, victim_pid: int, init_pid: int = 0
    ) -> Context:
        """The context of a victim in `victim_path`, killed for the limit of `limit_path`.

        `init_pid` is its container's init, if that is another process. The victim's own is read
        first, because it lives least.
        """
        command_line = self._command_line(victim_pid)
        memory, reason = self._memory(victim_path)
        return Context(
            read_boot_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            memory=memory,
            memory_reason=reason,
            siblings=self._siblings(limit_path or victim_path),
            cgroup_pressure=self._cgroup_pressure(limit_path),
            host_pressure=self._pressure(f"{self._proc}/pressure/memory"),
            command_line=command_line,
            init_command_line=self._command_line(init_pid) if init_pid else b"",
        )

    def _memory(self, path: str) -> tuple[dict[str, int], str]:
        stat = self._hierarchy.stat(path)
        if not stat:
            return {}, "memory.stat of the cgroup could not be read"
        if self._hierarchy.version == cgroups.V2:
            names = ("anon", "file", "shmem", "slab", "kernel_stack", "pagetables")
            return {name: stat[name] for name in names if name in stat}, (
                "memory.stat of this kernel does not tell"
            )
        v1 = {"anon": "total_rss", "file": "total_cache", "shmem": "total_shmem"}
        return {name: stat[old] for name, old in v1.items() if old in stat}, (
            "memory.stat of cgroup v1 does not tell"
        )

    def _siblings(self, path: str) -> tuple[Sibling, ...]:
        now = time.monotonic_ns()
        shared_path, read_ns, siblings = self._shared
        if path == shared_path and now - read_ns < _SHARED_FOR_NS:
            return siblings
        pids = self._hierarchy.processes(path, self._cap)
        siblings = tuple(filter(None, map(self._process, pids)))
        self._shared = (path, now, siblings)
        return siblings

    def _process(self, pid: int) -> Sibling | None:
        """From /proc/PID/stat (proc(5)): the name is in parentheses and may hold some."""
        try:
            raw = _read(f"{self._proc}/{pid}/stat")
        except OSError:
            return None
        name, _, rest = raw.partition(b"(")[2].rpartition(b")")
        fields = rest.split()
        memory = int(fields[21]) * _PAGE_BYTES
        return Sibling(pid, int(fields[1]), name.decode("utf-8", "backslashreplace"), memory)

    def _cgroup_pressure(self, path: str | None) -> Pressure:
        if path is None:
            return Pressure(reason="no cgroup's limit was hit, or it is not known whose")
        if self._hierarchy.version != cgroups.V2:
            return Pressure(reason="cgroup v1 has no pressure files")
        return self._pressure(f"{self._hierarchy.mount}{path}/memory.pressure")

    def _pressure(self, path: str) -> Pressure:
        try:
            found = dict(_AVG10.findall(_read(path).decode()))
        except OSError as error:
            return Pressure(reason=f"{os.path.basename(path)}: {error.strerror}")  # noqa: PTH119
        if not found:
            return Pressure(reason=f"{os.path.basename(path)}: no averages in it")  # noqa: PTH119
        some, full = found.get("some"), found.get("full")
        return Pressure(float(some) if some else None, float(full) if full else None)

    def _command_line(self, pid: int) -> bytes:
        """For want of the kernel's own copy; empty when the victim is gone already."""
        try:
            return _read(f"{self._proc}/{pid}/cmdline")
        except OSError:
            return b""


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536)
    finally:
        os.close(fd)
