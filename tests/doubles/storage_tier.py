"""A tier whose counts a test sets, and a host whose cgroups and devices it makes.

The real tiers are tested against the kernel; this one has what a kernel gives only in hours: ten
thousand cgroups that come and go, devices that are exchanged, times of any length.
"""

from __future__ import annotations

import bisect
import collections
import itertools
import pathlib
from collections.abc import Iterable

from otel_oom import semconv
from otel_oom.receivers.storage import histogram, tiers
from otel_oom.receivers.storage.histogram import BUCKETS, FIRST_BUCKET, Histogram, Key

QUEUE, DEVICE = semconv.METRIC_QUEUE_DURATION, semconv.METRIC_DEVICE_DURATION
OPERATIONS = ("read", "write", "flush")
BOUNDS_S = [2.0 ** ((FIRST_BUCKET + index) / 8) for index in range(BUCKETS + 1)]
"""Bucket i of ours has what is longer than bound i, and not longer than bound i + 1."""


def counted(*times_s: float) -> Histogram:
    """The histogram of these times, by the definition of OTLP's buckets."""
    buckets, zeros = [0] * BUCKETS, 0
    for time_s in times_s:
        if time_s <= histogram.ZERO_THRESHOLD_S:
            zeros += 1
        else:
            buckets[bisect.bisect_left(BOUNDS_S, time_s) - 1] += 1
    return Histogram(round(sum(times_s) * 1e9), zeros, buckets)


class FakeTier:
    """Says what it is told. As the real one, it gives the same object until a series moves."""

    def __init__(self, name: str = "block") -> None:
        self.name = name
        self.fd = -1
        self.left_out: dict[str, str] = {}
        self.times: dict[tuple[semconv.Metric, Key], list[float]] = collections.defaultdict(list)
        self.errors: dict[tuple[Key, str], int] = {}
        self.forgotten: list[Key] = []
        self._told: dict[tuple[semconv.Metric, Key], Histogram] = {}

    def operation(self, number: int) -> str:
        return OPERATIONS[number]

    def add(self, key: Key, *times_s: float, metric: semconv.Metric = DEVICE) -> None:
        self.times[metric, key] += times_s
        self._told.pop((metric, key), None)

    def read(self) -> tiers.Reading:
        found: dict[semconv.Metric, dict[Key, Histogram]] = {QUEUE: {}, DEVICE: {}}
        for (metric, key), times in self.times.items():
            if (metric, key) not in self._told:
                self._told[metric, key] = counted(*times)
            found.setdefault(metric, {})[key] = self._told[metric, key]
        return tiers.Reading(found, dict(self.errors))

    def forget(self, keys: Iterable[Key]) -> None:
        keys = set(keys)
        self.forgotten += keys
        for which in [which for which in self.times if which[1] in keys]:
            del self.times[which]
            self._told.pop(which, None)
        self.errors = {which: n for which, n in self.errors.items() if which[0] not in keys}


class Host:
    """A root with cgroups (v2) and disks."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self._numbers = itertools.count()
        for directory in ("proc/self", "cg", "sys/dev/block"):
            (root / directory).mkdir(parents=True)
        (root / "proc/self/mounts").write_text(f"cgroup2 {root}/cg cgroup2 rw 0 0\n")

    def cgroup(self, path: str) -> int:
        directory = self.root / f"cg{path}"
        directory.mkdir(parents=True)
        return directory.stat().st_ino

    def end_cgroup(self, path: str) -> None:
        """Moved, not removed: its inode must not be used again, as a cgroup's id is not."""
        ended = self.root / "ended"
        ended.mkdir(exist_ok=True)
        (self.root / f"cg{path}").rename(ended / str(next(self._numbers)))

    def disk(self, name: str, number: int, sequence: int = 1, *, stacked: bool = False) -> None:
        directory = self.root / f"sys/dev/block/{number >> 20}:{number & 0xFFFFF}"
        (directory / "slaves").mkdir(parents=True, exist_ok=True)
        (directory / "uevent").write_text(f"DEVNAME={name}\nDISKSEQ={sequence}\n")
        if stacked:
            (directory / "slaves/below").mkdir()

    def end_disk(self, number: int) -> None:
        directory = self.root / f"sys/dev/block/{number >> 20}:{number & 0xFFFFF}"
        (directory / "uevent").unlink()
        directory.rename(self.root / f"ended-{number}")
