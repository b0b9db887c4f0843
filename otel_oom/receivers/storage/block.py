"""The always-on tier: latency of every block request, and the slow requests themselves.

The kernel side counts into memory that is mapped here, so a reading is no system call. What it
leaves out, loses or cannot measure is counted by reason: `left_out`, `lost`, `unmeasured`.
"""

from __future__ import annotations

import errno
import logging
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from otel_oom import errors
from otel_oom.bpf import block_probe, layout, probe, ring
from otel_oom.bpf import storage_events as events
from otel_oom.receivers.storage.histogram import Key, Series
from otel_oom.receivers.storage.slots import Cpus, Slots

logger = logging.getLogger(__name__)

SlowRequest = events.StorageRequest
"""A request over a threshold, as the kernel told it: times are CLOCK_BOOTTIME nanoseconds, 0 where
not known; `status` as `error_type` reads it; `cgroup_id` and `device` as in `Key`; `inode` of the
file that its first page belongs to, 0 for direct I/O; `flags` of `StorageRequestFlag`."""

_EVENTS = (
    events.StorageKeyLayout,
    events.StorageSeriesLayout,
    events.StorageCachedLayout,
    events.StorageErrorKeyLayout,
    events.StorageRequestLayout,
    events.StorageCountersLayout,
    events.StorageCpuLayout,
    events.StorageSettingsLayout,
)
_STATUS_ERRNO = {
    1: errno.EOPNOTSUPP,
    2: errno.ETIMEDOUT,
    3: errno.ENOSPC,
    4: errno.ENOLINK,
    5: errno.EREMOTEIO,
    6: errno.EBADE,
    7: errno.ENODATA,
    8: errno.EILSEQ,
    9: errno.ENOMEM,
    10: errno.EIO,
}
"""blk_status_t as block/blk-core.c has it, up to where kernels number alike."""


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
    ) -> None:
        """A request over `total_ns`, or over `stage_ns` in queue or device, is slow."""
        cpus = block_probe.possible_cpus(root)
        self._sizes = sizes = block_probe.Sizes(cpus, max_series, ring_bytes)
        self._object = block_probe.attach(probe.kernel(root), sizes, stage_ns, total_ns)
        try:
            layout.check(self._object.types(), _EVENTS)
        except errors.BpfError:
            self._object.close()
            raise
        self._ring = ring.open_ring(self._object.map_fd("storage_requests"), ring_bytes)
        cpus_bytes = cpus * events.StorageCpuLayout.SIZE_BYTES
        self._cpus = Cpus(self._object.map_pages("storage_cpus", cpus_bytes), cpus)
        series_bytes = cpus * sizes.slots * events.StorageSeriesLayout.SIZE_BYTES
        self._slots = Slots(
            self._object.map_pages("storage_series", series_bytes), cpus, sizes.slots
        )
        self._keys = {int(slot): Key(0, 0, slot) for slot in events.StorageOperation}
        self._errors_seen = self._bad_records = self._unread = 0
        self._errors: dict[ErrorKey, int] = {}
        self._retired: dict[int, int] = {}  # slot to the requests of it that were told
        self._resting: dict[int, int] = {}  # the same, retired before the last reading
        self._issues = ""

    @property
    def fd(self) -> int:
        """Readable when `drain` has something."""
        return self._ring.fd

    def read_series(self) -> dict[Key, Series]:
        """All series so far; one that has not moved since the last reading is the same object."""
        self._reuse()
        counters = self.counters()
        if counters.no_issue and not self._issues:
            self._note_issues()
        end = min(self._sizes.slots, block_probe.OVERFLOW_SLOTS + counters.taken)
        series = self._slots.read(end)
        if series.keys() - self._keys.keys() - self._retired.keys() - self._resting.keys():
            self._read_keys()
        return {self._keys[slot]: found for slot, found in series.items() if slot in self._keys}

    def forget(self, keys: Iterable[Key]) -> None:
        """Give the slots of these series to others; should one come again, it begins at 0.

        What is counted between their last reading and this is in `lost` as `forgotten`.
        """
        slots = {key: slot for slot, key in self._keys.items() if not key.is_overflow}
        for key in keys:
            if key in slots and self._object.delete("storage_slots", _packed(key)):
                slot = slots[key]
                del self._keys[slot]
                self._retired[slot] = self._slots.told(slot)
        self._cpus.uncache(self._retired)

    def errors(self) -> dict[ErrorKey, int]:
        """Failed completions so far."""
        seen = self.counters().errors
        if seen != self._errors_seen:
            self._errors_seen = seen
            form = events.StorageErrorKeyLayout.FORMAT
            found = self._object.items("storage_errors", form.size, 8)
            for raw, count in found.items():
                *key, status, _ = form.unpack(raw)
                self._errors[ErrorKey(Key(*key), status)] = int.from_bytes(count, "little")
        return dict(self._errors)

    def drain(self, limit: int = 256) -> list[SlowRequest]:
        """Up to `limit` slow requests, oldest first."""
        form = events.StorageRequestLayout.FORMAT
        records = self._ring.drain(limit)
        good = [raw for raw in records if len(raw) == form.size]
        self._bad_records += len(records) - len(good)
        return [SlowRequest._make(form.unpack(raw)) for raw in good]

    def is_empty(self) -> bool:
        """Whether all slow requests so far were drained."""
        return self._ring.is_empty()

    def counters(self) -> events.StorageCounters:
        """The kernel side's own counts, of all CPUs."""
        return self._cpus.counters()

    def lost(self) -> dict[str, int]:
        """What is missing in the numbers, by reason; all 0 in a good run."""
        counters = self.counters()
        return {
            "ring": counters.lost_slow,
            "recursion": counters.nested + self._object.recursion_misses(),
            "errors": counters.lost_errors,
            "issues": counters.lost_issues,
            "forgotten": self._unread,
            "bad_records": self._bad_records,
        }

    def unmeasured(self) -> dict[str, int]:
        """Requests that are counted without one of their times, by reason."""
        counters = self.counters()
        names = ("no_start", "after_flush", "no_issue", "never_issued", "backwards", "too_long")
        return {name: getattr(counters, name) for name in names}

    def left_out(self) -> dict[str, int]:
        """Completions that are no operation of a device, by kind."""
        counters = self.counters()
        return {"passthrough": counters.passthrough, "sequence_ends": counters.sequence_ends}

    def describe(self) -> str:
        """What is attached and what was left out with its reason, on one line."""
        return "block requests by block_rq_complete" + (self._issues and f"; {self._issues}")

    def detach(self) -> None:
        """Stop counting; what was counted can still be read."""
        self._object.detach()

    def close(self) -> None:
        """Detach and let go of the memory."""
        self._ring.close()
        self._cpus.close()
        self._slots.close()
        self._object.close()

    def _note_issues(self) -> None:
        """Some queue does not keep the time of issue: note it from here on."""
        why_not = block_probe.why_no_issues()
        if not why_not:
            try:
                self._object.attach(block_probe.ISSUE)
            except errors.BpfError as error:
                why_not = str(error).splitlines()[0]
        self._issues = "time of issue by block_rq_issue, for queues that do not keep it"
        if why_not:
            self._issues = f"without the time of issue where a queue does not keep it: {why_not}"
        logger.info("%s", self._issues)

    def _read_keys(self) -> None:
        form = events.StorageKeyLayout.FORMAT
        for raw, slot in self._object.items("storage_slots", form.size, 4).items():
            self._keys[int.from_bytes(slot, "little")] = Key(*form.unpack(raw))

    def _reuse(self) -> None:
        """Hand back slots that were forgotten two readings ago.

        A program that was running when its series was forgotten may have put the slot into its
        CPU's cache once more: so the caches are cleared twice, a reading apart.
        """
        for slot, told in self._resting.items():
            self._unread += self._slots.clear(slot) - told
            self._object.update("free_slots", None, slot.to_bytes(4, "little"))
        self._resting, self._retired = self._retired, {}
        self._cpus.uncache(self._resting)


def error_type(status: int) -> str:
    """The errno's name, e.g. `EIO`, of a request's status."""
    number = -status if status < 0 else _STATUS_ERRNO.get(status, 0)
    return errno.errorcode.get(number, f"blk_status_{status}")


def _packed(key: Key) -> bytes:
    return events.StorageKeyLayout.FORMAT.pack(*key)
