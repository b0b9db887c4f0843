"""The always-on tier: latency of every block request, and the slow requests themselves.

The kernel side counts into memory that is mapped here, so a reading is no system call. What it
leaves out, loses or cannot measure is counted by reason: `lost`, `unmeasured`, `left_out`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from otel_oom.bpf import storage_events
from otel_oom.receivers.storage.histogram import Key, Series


SlowRequest = storage_events.StorageRequest
"""A request over a threshold, as the kernel told it: times are CLOCK_BOOTTIME nanoseconds, 0 where
not known; `status` as `error_type` reads it; `cgroup_id` and `device` as in `Key`; `inode` of the
file that its first page belongs to, 0 for direct I/O; `flags` of `StorageRequestFlag`."""


class ErrorKey(NamedTuple):
    """Whose operations failed, and how (`error_type`)."""

    key: Key
    status: int


class Block:
    """The loaded and attached programs; `errors.BpfError` from the constructor says why not."""

    def __init__(
        self,
        *,
        stage_ns: int,
        total_ns: int,
        max_series: int,
        ring_bytes: int,
        root: pathlib.Path = pathlib.Path("/"),
    ) -> None: ...

    @property
    def fd(self) -> int:
        """Readable when `drain` has something."""

    def read_series(self) -> dict[Key, Series]:
        """All series so far; those that did not move since the last reading are the same objects."""

    def errors(self) -> dict[ErrorKey, int]:
        """Failed completions so far."""

    def forget(self, keys: Iterable[Key]) -> None:
        """Give the slots of these series to others; should one come again, it begins at 0."""

    def drain(self, limit: int = 256) -> list[SlowRequest]:
        """Up to `limit` slow requests, oldest first."""

    def is_empty(self) -> bool:
        """Whether all slow requests so far were drained."""

    def lost(self) -> dict[str, int]:
        """What is missing in the numbers, by reason; all 0 in a good run."""

    def unmeasured(self) -> dict[str, int]:
        """Requests that are counted without a time, by reason."""

    def left_out(self) -> dict[str, int]:
        """Completions that are no operation of a device, by kind."""

    def slow(self) -> int:
        """Requests over a threshold: those drained, those in the ring, and lost()['ring']."""

    def describe(self) -> str:
        """What is attached and what was left out with its reason, on one line."""

    def detach(self) -> None:
        """Stop counting; what was counted can still be read."""

    def close(self) -> None:
        """Detach and let go of the memory; safe to call twice."""


def error_type(status: int) -> str:
    """The errno's name, e.g. `EIO`, of a request's status."""
