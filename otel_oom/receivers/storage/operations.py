"""Follows storage operations through the kernel: loads the programs, reads what was slow.

Without the scheduler's and the block layer's tracepoints there are no timelines. A filesystem's
own ones only add to them; those that this kernel lacks are left out, with the reason.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterable, Mapping

from otel_oom import errors
from otel_oom.bpf import block_probe, layout, loader, ring, tracepoints
from otel_oom.bpf import storage_operations_events as events
from otel_oom.receivers.storage import calls
from otel_oom.receivers.storage.histogram import BUCKETS, Histogram, Key

MODULES = ("ext4", "jbd2", "xfs", "btrfs")
_DRAIN = 4096
_CALLS = 16
_SYSCALLS = 512
_SETTINGS = events.StorageSettingsLayout.FORMAT
_KEY, _HISTOGRAM = events.StorageCallKeyLayout.FORMAT, events.StorageCallHistogramLayout.FORMAT
_ERROR = events.StorageCallErrorKeyLayout.FORMAT
_BITS = events.StorageBitsLayout.FORMAT
_BUCKETS = struct.Struct(f"<{BUCKETS}I")
_NANOSECONDS = 1_000_000_000

_ARGUMENTS = {
    "on_dirty_throttle": 8,
    "on_dirty_throttle_of_12": 12,
    "on_getrq": 1,
    "on_getrq_of_5_10": 3,
    "on_back_merge": 1,
    "on_back_merge_of_5_10": 3,
    "on_front_merge": 1,
    "on_front_merge_of_5_10": 3,
    "on_uring_file": 2,
}
"""Of programs that need a certain number of arguments of their tracepoint."""

_RENAMED = {"io_uring_submit_req": "io_uring_submit_sqe"}
"""Tracepoints that had another name on earlier kernels: one of the two is enough."""

_REQUIRED = (
    "sys_enter",
    "sys_exit",
    "sched_process_exit",
    "sched_switch",
    "sched_waking",
    "block_rq_complete",
    "block_bio_queue",
    "block_getrq",
)
_LAYOUTS = (
    events.StorageRequestLayout,
    events.StorageWaitLayout,
    events.StorageFileLayout,
    events.StorageOperationLayout,
    events.StorageReportLayout,
    events.StorageBitsLayout,
    events.StorageSettingsLayout,
    events.StorageCallKeyLayout,
    events.StorageCallHistogramLayout,
    events.StorageCallErrorKeyLayout,
    events.StorageOperationCountersLayout,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the kernel side follows. `sample`: of how many calls one, by operation; else none.

    `max_asynchronous`: requests on their way at a time, 168 bytes each; what comes beyond is
    counted as lost.
    """

    stage_s: float
    total_s: float
    sample: Mapping[str, int]
    ring_bytes: int
    max_series: int
    max_asynchronous: int = 4096


class Operations:
    """The attached programs, and the ring of slow operations."""

    def __init__(self, settings: Settings) -> None:
        """Load and attach; `ProbeUnsupported` or `LoadFailed` says why it cannot be."""
        self.left_out: dict[str, str] = {}
        self._read: dict[bytes, tuple[bytes, Histogram]] = {}
        self._object = loader.Object("storage_operations")
        try:
            self._attach(settings)
        except BaseException:
            self._object.close()
            raise
        self._ring = ring.open_ring(self._object.map_fd("storage_reports"), settings.ring_bytes)
        self._counters = self._object.map_pages("storage_operation_counters")

    @property
    def fd(self) -> int:
        """Readable when an operation was slow."""
        return self._ring.fd

    def drain(self) -> list[bytes]:
        """Raw `struct storage_report`s, oldest first, which leave the ring."""
        return self._ring.drain(_DRAIN)

    def read(self) -> dict[Key, Histogram]:
        """Durations of all calls so far, of series that have any."""
        items = self._object.items("storage_calls", _KEY.size, _HISTOGRAM.size)
        return {
            Key(*_KEY.unpack(key)): self._histogram(key, value)
            for key, value in items.items()
            if any(value)
        }

    def errors(self) -> dict[tuple[Key, int], int]:
        """Failed calls so far, by series and errno."""
        found = {}
        for raw, count in self._object.items("storage_call_errors", _ERROR.size, 8).items():
            *key, number, _ = _ERROR.unpack(raw)
            found[Key(*key), -number] = int.from_bytes(count, "little")
        return found

    def forget(self, keys: Iterable[Key]) -> None:
        """Give the room of these series to others; one that comes again begins at 0."""
        for key in keys:
            if not key.is_overflow:
                raw = _KEY.pack(*key)
                self._object.delete("storage_calls", raw)
                self._read.pop(raw, None)

    def counters(self) -> events.StorageOperationCounters:
        """Counts since the load, made in the kernel."""
        form = events.StorageOperationCountersLayout.FORMAT
        return events.StorageOperationCounters._make(form.unpack_from(self._counters))

    def skipped(self) -> int:
        """Runs of our programs that the kernel skipped, because one was running already."""
        return self._object.recursion_misses()

    def instructions(self) -> dict[str, int]:
        """Instructions that the verifier walked, by program."""
        return self._object.verified_instructions()

    def _histogram(self, key: bytes, value: bytes) -> Histogram:
        """The same object as at the last reading, if nothing has moved."""
        before = self._read.get(key)
        if before is None or before[0] != value:
            sum_ns, zeros, buckets = _HISTOGRAM.unpack(value)
            before = value, Histogram(sum_ns, zeros, _BUCKETS.unpack(buckets))
            self._read[key] = before
        return before[1]

    def detach(self) -> None:
        """Stop following; what was counted and what is in the ring can still be read."""
        self._object.detach()

    def close(self) -> None:
        """Detach and unload."""
        self._ring.close()
        self._counters.close()
        self._object.close()

    def _attach(self, settings: Settings) -> None:
        programs = self._choose()
        layout.check(self._object.types(), _LAYOUTS)
        self._object.choose(programs)
        self._object.set_max_entries("storage_reports", settings.ring_bytes)
        self._object.set_max_entries("asynchronous", settings.max_asynchronous)
        overflow = [_KEY.pack(0, 0, call) for call in calls.NAMES.values()]
        self._object.set_max_entries("storage_calls", settings.max_series + len(overflow))
        bits = block_probe.request_bits()
        self._object.set_initial_value(
            ".rodata.bits", _BITS.pack(bits["IO_STAT"], bits["FLUSH_SEQ"])
        )
        self._object.load()
        for key in overflow:
            self._object.update("storage_calls", key, bytes(_HISTOGRAM.size))
        self._object.update("storage_settings", bytes(4), _encode(settings))
        for program in programs:
            self._object.attach(program)

    def _choose(self) -> list[str]:
        """Programs that this kernel has the tracepoints for."""
        found = tracepoints.Tracepoints(MODULES if loader.may_see_modules() else ())
        hooks = self._object.programs()
        try:
            arguments = {hook: found.arguments(hook) for hook in hooks.values()}
        finally:
            found.close()
        chosen = [name for name, hook in hooks.items() if _fits(name, arguments[hook])]
        absent = arguments.keys() - {hooks[name] for name in chosen}
        for hook in _REQUIRED:
            if hook in absent:
                raise errors.ProbeUnsupported(f"operations cannot be followed: {_why_not(hook)}")
        for names in _RENAMED.items():
            if not absent.issuperset(names):
                absent.difference_update(names)
        self.left_out = {hook: _why_not(hook) for hook in sorted(absent)}
        return chosen


def _fits(program: str, arguments: int) -> bool:
    """Whether a tracepoint with so many arguments is the one that the program is for."""
    return arguments != tracepoints.ABSENT and _ARGUMENTS.get(program, arguments) == arguments


def _why_not(hook: str) -> str:
    return f"this kernel's BTF has no tracepoint {hook} as we know it, or its module is not loaded"


def _encode(settings: Settings) -> bytes:
    sample = [0] * _CALLS
    for name, every in settings.sample.items():
        sample[calls.NAMES[name]] = every
    return _SETTINGS.pack(
        round(settings.stage_s * _NANOSECONDS),
        round(settings.total_s * _NANOSECONDS),
        os.getpid(),
        0,
        struct.pack(f"<{_CALLS}I", *sample),
        calls.table(_SYSCALLS),
    )
