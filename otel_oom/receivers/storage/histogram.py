"""The shared types of latency: what is counted, for whom, in OTLP's own buckets.

Bucket 0 of ours is OTLP's bucket `FIRST_BUCKET` at scale `SCALE`, in seconds: OTLP's bucket i
holds (2^(i/8), 2^((i+1)/8)]. What is not longer than `ZERO_THRESHOLD_S` is in `zeros`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SCALE = 3
"""Base 2^(2^-3): 8 buckets an octave, each 9 % wide."""

FIRST_BUCKET = -22 * 8
"""OTLP's index of `buckets[0]`, the `offset` of a histogram that is not trimmed."""

BUCKETS = 256
ZERO_THRESHOLD_S = 2.0**-22

MINOR_BITS = 20


class Key(NamedTuple):
    """One series: a workload's operations of one kind on one disk."""

    cgroup_id: int
    """Inode of the cgroup's directory (1 is the root); 0: nobody's, as flushes are."""

    device: int
    """The kernel's dev_t of the whole disk, of calls of the filesystem: major << 20 | minor; 0 for
    calls without a file, and in an overflow series."""

    operation: int
    """`storage_events.StorageOperation`; of calls `storage_operations_events.StorageCall`."""

    @property
    def is_overflow(self) -> bool:
        """Whether this is the series of all that found no slot of its own."""
        return not self.device and not self.cgroup_id


class Histogram(NamedTuple):
    """Times since the load; `buckets` has `BUCKETS` counts."""

    sum_ns: int
    zeros: int
    buckets: Sequence[int]

    @property
    def measured(self) -> int:
        """How many were measured; not each request has each time (`Block.unmeasured`)."""
        return self.zeros + sum(self.buckets)


class Series(NamedTuple):
    """Counts since the series began; `merged`: requests made of several bios.

    `queue` is from the request's start to its issue to the driver, `device` from there to its
    completion.
    """

    requests: int
    bytes: int
    merged: int
    queue: Histogram
    device: Histogram


def major_minor(device: int) -> tuple[int, int]:
    """Numbers of a kernel dev_t, as /sys/dev/block/MAJOR:MINOR has them."""
    return device >> MINOR_BITS, device & (1 << MINOR_BITS) - 1


def is_disk(device: int) -> bool:
    """Whether a dev_t can be a disk's: major 0 is of filesystems that have none of their own."""
    return major_minor(device)[0] != 0
