"""Loads and attaches the block tier's programs, or says why they cannot be."""

from __future__ import annotations

import dataclasses
import pathlib

from otel_oom import errors
from otel_oom.bpf import enumerators, loader, probe, storage_events

COMPLETE, ISSUE = "on_rq_complete", "on_rq_issue"
OVERFLOW_SLOTS = len(storage_events.StorageOperation)
"""The first slots of each CPU: one an operation, for what finds none of its own."""

_COMPLETE_ARGUMENTS = 3  # request, status, bytes
_ISSUE_ARGUMENTS = 1  # request; before v5.11 and its backports the queue came first


_OLD_REQUEST_BITS = {"FLUSH_SEQ": 4, "IO_STAT": 13}
_OLD_QUEUE_BITS = {"STATS": 20}
"""As they were before v6.11, when they became enumerators (5f89154e8e9e and its neighbours)."""


_NO_OPERATION = 256  # operations have eight bits


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """How large the maps are made. Series take 2112 bytes a CPU each, whether used or not."""

    cpus: int
    max_series: int
    ring_bytes: int

    @property
    def slots(self) -> int:
        """Of each CPU: the series' and the overflow's."""
        return OVERFLOW_SLOTS + self.max_series


def refusal(found: probe.Kernel) -> str:
    """Why block requests cannot be measured at all, with the remedy; empty if they can."""
    why_not = probe.tracing_refusal(found)
    if why_not:
        return why_not
    arguments, _ = probe.tracepoint("block_rq_complete")
    if arguments != _COMPLETE_ARGUMENTS:
        return (
            "the kernel's BTF has no tracepoint block_rq_complete with a request, its status and "
            "its bytes; Linux 5.8 or newer with CONFIG_BLOCK has it"
        )
    return ""


def attach(found: probe.Kernel, sizes: Sizes, stage_ns: int, total_ns: int) -> loader.Object:
    """Load, and attach to completions; `ProbeUnsupported` or `LoadFailed` says why not."""
    why_not = refusal(found)
    if why_not:
        raise errors.ProbeUnsupported(why_not)
    loaded = loader.Object("storage")
    try:
        loaded.choose((COMPLETE, *(() if why_no_issues() else (ISSUE,))))
        _size(loaded, sizes)
        packed = storage_events.StorageSettingsLayout.FORMAT.pack(
            *_settings(sizes, stage_ns, total_ns)
        )
        loaded.set_initial_value(".rodata.settings", packed)
        loaded.load()
        for slot in range(OVERFLOW_SLOTS, sizes.slots):
            loaded.update("free_slots", None, slot.to_bytes(4, "little"))
        loaded.attach(COMPLETE)
    except errors.BpfError:
        loaded.close()
        raise
    return loaded


def why_no_issues() -> str:
    """Why the time of issue cannot be noted for queues that do not keep it; empty if it can."""
    arguments, _ = probe.tracepoint("block_rq_issue")
    if arguments == _ISSUE_ARGUMENTS:
        return ""
    return f"this kernel's block_rq_issue has {arguments} arguments, not the request alone"


def possible_cpus(root: pathlib.Path) -> int:
    """One more than the highest number that a CPU can have."""
    path = root / "sys/devices/system/cpu/possible"
    try:
        text = path.read_text()
    except OSError as error:
        raise errors.ProbeUnsupported(
            f"{path} cannot be read ({error.strerror}): mount /sys there, or set `root_path`"
        ) from error
    return int(text.strip().replace("-", ",").rsplit(",", 1)[-1]) + 1


def request_bits() -> dict[str, int]:
    """Masks of a request's `rq_flags` on this kernel: IO_STAT and FLUSH_SEQ."""
    found = enumerators.kernel_values("__RQF_", tuple(_OLD_REQUEST_BITS))
    return {name: 1 << bit for name, bit in (_OLD_REQUEST_BITS | found).items()}


def _size(loaded: loader.Object, sizes: Sizes) -> None:
    loaded.set_max_entries("storage_requests", sizes.ring_bytes)
    loaded.set_max_entries("storage_series", sizes.cpus * sizes.slots)
    loaded.set_max_entries("storage_cpus", sizes.cpus)
    loaded.set_max_entries("storage_slots", sizes.max_series)
    loaded.set_max_entries("free_slots", sizes.max_series)


def _settings(sizes: Sizes, stage_ns: int, total_ns: int) -> storage_events.StorageSettings:
    requests = request_bits()
    queues = enumerators.kernel_values("QUEUE_FLAG_", tuple(_OLD_QUEUE_BITS))
    operations = enumerators.kernel_values("REQ_OP_", ("ZONE_APPEND",))
    bits = _OLD_QUEUE_BITS | queues
    return storage_events.StorageSettings(
        stage_ns=stage_ns,
        total_ns=total_ns,
        least_ns=min(stage_ns, total_ns),
        queue_stats=1 << bits["STATS"],
        io_stat=requests["IO_STAT"],
        flush_sequence=requests["FLUSH_SEQ"],
        slots=sizes.slots,
        zone_append=operations.get("ZONE_APPEND", _NO_OPERATION),
    )
