"""How much of the time this host keeps work waiting: for CPU, for I/O, for memory.

Pressure stall information (Linux 4.20, Documentation/accounting/psi.rst) says it: the share of
time in which some task was stalled. Where the kernel or the container has none, what /proc has
always told stands in: more runnable tasks than CPUs, the CPUs' time in iowait, little memory left.
"""

from __future__ import annotations

import dataclasses
import os
import re

LOW_MEMORY = 0.10
"""Share of memory available below which memory counts as short, though nothing stalls yet."""

_STALLED = re.compile(rb"some avg10=([\d.]+) .*total=(\d+)")
_RUNNABLE = re.compile(rb"(\d+)/\d+")
_MOST_BYTES = 8192


@dataclasses.dataclass(frozen=True, slots=True)
class Pressure:
    """Shares of time from 0 (nothing waits) to 1 (something always does)."""

    cpu: float
    io: float
    memory: float

    @property
    def idle(self) -> float:
        """What is left of the host when all three are taken off, from 0 to 1."""
        return (1 - self.cpu) * (1 - self.io) * (1 - self.memory)


class Reader:
    """Reads the pressure since the last reading, or of the last 10 s if that was higher."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._cpus = os.cpu_count() or 1
        self._stalls = {name: _Stall(f"{proc}/pressure/{name}") for name in _INSTEAD}
        self._waited = (0, 0)

    def read(self, now_s: float) -> Pressure:
        """The pressure now; `now_s` is a monotonic clock's. Raises `OSError` without a /proc."""
        stalled = {name: stall.share(now_s) for name, stall in self._stalls.items()}
        io = stalled["io"]
        return Pressure(
            cpu=max(stalled["cpu"] or 0.0, self._too_many_runnable()),
            io=self._iowait() if io is None else io,
            memory=max(stalled["memory"] or 0.0, self._short_of_memory()),
        )

    def missing(self) -> str:
        """Which files of pressure this host has not got, why, and what is used in their place."""
        lacking = {name: stall.why for name, stall in self._stalls.items() if stall.why}
        return "; ".join(f"{why}: {_INSTEAD[name]}" for name, why in lacking.items())

    def _too_many_runnable(self) -> float:
        found = _RUNNABLE.search(_read(f"{self._proc}/loadavg"))
        runnable = int(found[1]) if found else 0
        return 1 - self._cpus / max(self._cpus, runnable)

    def _short_of_memory(self) -> float:
        sizes = dict(line.split(b":") for line in _read(f"{self._proc}/meminfo").splitlines()[:3])
        if b"MemAvailable" not in sizes:
            return 0.0  # before Linux 3.14
        available = _kib(sizes[b"MemAvailable"]) / _kib(sizes[b"MemTotal"])
        return max(0.0, (LOW_MEMORY - available) / LOW_MEMORY)

    def _iowait(self) -> float:
        """The share of the CPUs' time since the last reading; at first since the boot."""
        ticks = [int(field) for field in _read(f"{self._proc}/stat").split(b"\n")[0].split()[1:9]]
        waited, all_ = ticks[4] - self._waited[0], sum(ticks) - self._waited[1]
        self._waited = ticks[4], sum(ticks)
        return min(1.0, max(0.0, waited / all_)) if all_ > 0 else 0.0


class _Stall:
    """One file of /proc/pressure; `why` says what is wrong with it, or is empty."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._last: tuple[float, int] | None = None
        self.why = ""

    def share(self, now_s: float) -> float | None:
        """The higher of the kernel's average of 10 s and the time since the last reading."""
        try:
            found = _STALLED.search(_read(self._path))
        except OSError as failure:
            self.why = f"{self._path}: {failure.strerror}"
            return None
        if not found:
            self.why = f"{self._path}: no averages in it"
            return None
        average, total_us = float(found[1]) / 100, int(found[2])
        last_s, last_us = self._last or (now_s, total_us)
        self._last = now_s, total_us
        recent = (total_us - last_us) / 1e6 / (now_s - last_s) if now_s > last_s else 0.0
        return min(1.0, max(average, recent))


_INSTEAD = {
    "cpu": "CPU pressure is told from runnable tasks alone",
    "io": "I/O pressure is estimated from the CPUs' time in iowait",
    "memory": "memory pressure is told from MemAvailable alone",
}


def _kib(text: bytes) -> int:
    return int(text.split()[0])


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)
