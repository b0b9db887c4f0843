"""The options of the receiver `storage`."""

from __future__ import annotations

import dataclasses
import math
import mmap
from collections.abc import Mapping
from typing import Literal, get_args

from otel_oom.config.types import ByteSize, Duration, Violations

Operation = Literal[
    "read",
    "write",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "syncfs",
    "sync",
    "fallocate",
    "truncate",
    "open",
    "unlink",
    "rename",
    "mkdir",
    "submit",
    "flush",
    "discard",
    "secure_erase",
    "write_zeroes",
    "zone_append",
    "other",
]
"""What can be told apart: system calls, and operations of the block layer (`other`: of zones)."""

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
SAMPLED = {"read": 64, "write": 64, "open": 64}
"""One of how many is timed where `sample` does not say; of the others, each."""

_LEAST_RING_BYTES = mmap.PAGESIZE
_MOST_RING_BYTES = 1 << 30
_MOST_SERIES = 65536
_MOST_SAMPLE = 2**32 - 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From when on an operation is slow. Comparison is in the kernel."""

    stage: Duration = Duration(0.010)
    """Default 10ms: an operation one of whose stages takes this long is reported with all of
    them. Lower: more spans and log records, some 40 µs of a core for both; 0 reports all."""

    total: Duration = Duration(0.020)
    """Default 20ms: an operation that takes this long in all is reported, whatever its stages."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Whose slow operations are reported. Histograms always have everything.

    Each is a list of patterns as in a shell (`*`, `?`, `[a-z]`), of which one must fit; an empty
    list fits all. What is not known of an operation fits no pattern.
    """

    process: list[str] = dataclasses.field(default_factory=list)
    """Names of processes (comm, 15 characters at most), e.g. `postgres`. Default all."""

    cgroup: list[str] = dataclasses.field(default_factory=list)
    """Paths of cgroups, e.g. `/kubepods*`; `*` goes over `/` too. Default all."""

    path: list[str] = dataclasses.field(default_factory=list)
    """Paths of files, e.g. `/var/lib/mysql/*`. Default all."""

    def validate(self) -> Violations:
        """A pattern that nothing can fit is a slip."""
        for key in ("process", "cgroup", "path"):
            for index, pattern in enumerate(getattr(self, key)):
                if not pattern:
                    yield (key, index), f"`{key}` must not have an empty pattern: nothing fits it"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the receiver `storage`."""

    thresholds: Thresholds = Thresholds()
    """When an operation is slow, and is reported as a span and a log record."""

    collection_interval: Duration = Duration(10.0)
    """How often the histograms are sent, default 10s. They are cumulative, so nothing is lost
    between; shorter costs CPU time by the number of series."""

    operations: list[Operation] = dataclasses.field(default_factory=lambda: list(OPERATIONS))
    """Which operations are told of, in histograms and reports; default all."""

    devices: list[str] = dataclasses.field(default_factory=lambda: ["*"])
    """Patterns as in a shell of the devices that are told of, by their name in /dev, e.g.
    `nvme*`; a disk's name fits its partitions too. Default all."""

    filter: Filter = Filter()
    """Whose slow operations are reported; histograms always have everyone's."""

    sample: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(SAMPLED))
    """By operation: one system call of how many is timed through its stages; default 64 for `read`,
    `write` and `open`, 1 for the others, also for those that are not written. A slow operation
    between two samples has no span of its own; its block requests have. `submit`, the calls that
    submit asynchronous operations: as often as `read` and `write` ask for, and then each with all
    its operations of one of them."""

    max_series: int = 512
    """Most series (cgroup, device and operation) that are told apart, default 512. Each takes
    2.1 KiB of kernel memory a CPU. What comes beyond is counted in one series an operation
    that has `otel.metric.overflow`."""

    include_stacked: bool = False
    """Whether `storage.block.device.duration` is sent for devices over others (a loop device over
    a file, dm) too; default false, because then the same wait is counted at each level."""

    ring_size: ByteSize = ByteSize(1024 * 1024)
    """Bytes of the kernel's ring, a power of two of at least 4 KiB, default 1 MiB. It holds slow
    operations until the agent reads them; those that find no room are counted as lost."""

    root_path: str = "/"
    """Where the host's /proc and /sys are; in a container, where they are mounted."""

    def validate(self) -> Violations:
        """Relations that types cannot say."""
        is_power = self.ring_size & (self.ring_size - 1) == 0
        if not is_power or not _LEAST_RING_BYTES <= self.ring_size <= _MOST_RING_BYTES:
            least = f"{_LEAST_RING_BYTES // 1024}KiB"
            yield ("ring_size",), f"`ring_size` must be a power of two from {least} to 1GiB"
        if self.collection_interval <= 0:
            yield ("collection_interval",), "`collection_interval` must be longer than 0"
        if not 1 <= self.max_series <= _MOST_SERIES:
            yield ("max_series",), f"`max_series` must be from 1 to {_MOST_SERIES}"
        if not self.operations:
            yield ("operations",), "`operations` must not be empty: leave it out for all"
        if not all(self.devices) or not self.devices:
            yield ("devices",), "`devices` must have patterns; leave it out for all"
        yield from self._sample_problems()

    def _sample_problems(self) -> Violations:
        for operation, number in self.sample.items():
            if operation not in OPERATIONS:
                known = ", ".join(OPERATIONS)
                yield ("sample", operation), f"`sample` knows no such operation; known are {known}"
            if not 1 <= number <= _MOST_SAMPLE:
                yield ("sample", operation), "`sample` must be 1 (each one) or more"

    def sampled(self, operation: str) -> int:
        """One system call of how many is timed."""
        if operation == "submit" and operation not in self.sample:
            return math.gcd(self.sampled("read"), self.sampled("write"))
        return self.sample.get(operation, SAMPLED.get(operation, 1))
