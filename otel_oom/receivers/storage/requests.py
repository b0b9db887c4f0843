"""A slow block request as a report: where it waited, for whom, for which file.

A request alone tells of two layers, the queue before the driver and the device behind it. Who
asked is whom the kernel accounts the request to; the process is not known here.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import pathlib
from collections.abc import Iterator, Sequence

from otel_oom import semconv
from otel_oom.bpf.storage_events import StorageOperation, StorageRequest, StorageRequestFlag
from otel_oom.pipeline import mounts, text
from otel_oom.pipeline.otlp import wire_values
from otel_oom.receivers.storage import block, devices, histogram, reports, workloads
from otel_oom.receivers.storage.config import Config

STARTED, ISSUED, COMPLETED = (event.name for event in semconv.STAGES_OF_REQUEST)
OPERATIONS = {member.value: member.name.lower() for member in StorageOperation}
"""By `Key.operation`."""

_NAMED_FLAGS = (
    StorageRequestFlag.SYNC,
    StorageRequestFlag.META,
    StorageRequestFlag.FUA,
    StorageRequestFlag.PREFLUSH,
    StorageRequestFlag.READAHEAD,
    StorageRequestFlag.BACKGROUND,
)
_MERGED, _AFTER_FLUSH = StorageRequestFlag.MERGED.value, StorageRequestFlag.AFTER_FLUSH.value
_NO_START = f"{STARTED}: the queue keeps no statistics (iostats)"
_NO_ISSUE = f"{ISSUED}, storage.delay.*: the kernel did not keep when the driver was given it"
_OWN_FLUSH = "storage.delay.*: before its issue it waited for a flush of its own, or in the queue"
_NO_FILE = "file.inode: the block is no mounted file's: it is the filesystem's own, or the disk's"
_NS_PER_S, _NS_PER_MS = 10**9, 10**6
_SPAN_ID = slice(reports.TRACE_ID_BYTES, None)


class Reporter:
    """Makes reports of the requests that are asked for."""

    def __init__(
        self,
        root: pathlib.Path,
        config: Config,
        cgroups: workloads.Workloads,
        disks: devices.Devices,
    ) -> None:
        self._root = root
        self._config = config
        self._cgroups = cgroups
        self._disks = disks
        self._total_ns = round(config.thresholds.total * _NS_PER_S)
        self._boot_id = (root / "proc/sys/kernel/random/boot_id").read_text().strip()
        self._types: dict[int, str | None] = {}

    def refresh(self) -> None:
        """Look anew at what is mounted."""
        self._types.clear()

    def report(self, request: StorageRequest, boot_to_unix_ns: int) -> reports.Report | None:
        """The report; None if the options leave it out."""
        operation = OPERATIONS.get(request.operation, "other")
        disk = self._disks.get(request.device)
        cgroup = self._cgroups.path(request.cgroup_id)
        if not self._is_asked_for(operation, disk, cgroup):
            return None
        stages = list(_stages(request, boot_to_unix_ns))
        verdict = _verdict(request, stages)
        device = disk.name if disk else "{}:{}".format(*histogram.major_minor(request.device))
        identity = self._identity(request)
        whole_ns = stages[-1].unix_ns - stages[0].unix_ns
        return reports.Report(
            operation=operation,
            stages=stages,
            verdict=verdict,
            threshold="total" if whole_ns >= self._total_ns else "stage",
            trace_id=identity[: reports.TRACE_ID_BYTES],
            span_id=identity[_SPAN_ID],
            cgroup=cgroup or request.cgroup_id or None,
            attributes=self._attributes(request, operation, device),
            body=_body(request, operation, device, whole_ns, verdict),
            error=block.error_type(request.status) if request.status else "",
        )

    def _is_asked_for(
        self, operation: str, disk: devices.Device | None, cgroup: str | None
    ) -> bool:
        """What is not known fits no pattern: neither a request's process nor its path is."""
        only = self._config.filter
        if only.process or only.path or operation not in self._config.operations:
            return False
        if disk is not None and not disk.is_told_of:
            return False
        return not only.cgroup or any(fnmatch.fnmatchcase(cgroup or "", p) for p in only.cgroup)

    def _attributes(
        self, request: StorageRequest, operation: str, device: str
    ) -> dict[str, str | int | bool | bytes]:
        found: dict[str, str | int | bool | bytes] = {semconv.SYSTEM_DEVICE: device}
        if direction := reports.DIRECTIONS.get(operation):
            found[semconv.DISK_IO_DIRECTION] = direction
        found[semconv.STORAGE_BYTES] = request.data_bytes
        found[semconv.STORAGE_REQUESTS] = 1
        found[semconv.STORAGE_MERGED] = bool(request.flags & _MERGED)
        found[semconv.ATTRIBUTION] = self._attribution(request, operation)
        if flags := _flags(request.flags):
            found[semconv.STORAGE_FLAGS] = flags
        if request.operation != StorageOperation.FLUSH:
            found[semconv.STORAGE_SECTOR] = request.sector
        type_ = self._type(request.inode_device) if request.inode else None
        if type_:
            found[semconv.FILE_INODE] = str(request.inode)
            found[semconv.FILESYSTEM_TYPE] = type_
        missing = (
            "" if request.start_boot_ns else _NO_START,
            "" if request.issue_boot_ns else _NO_ISSUE,
            _OWN_FLUSH if request.flags & _AFTER_FLUSH else "",
            _NO_FILE if request.inode and not type_ else "",
        )
        if any(missing):
            found[semconv.STORAGE_MISSING] = _elements(missing)
        return found

    def _type(self, device: int) -> str | None:
        """The type of the filesystem on a device; None is remembered until `refresh`."""
        if device not in self._types:
            self._types = {device: None, **mounts.filesystem_types(self._root)}
        return self._types[device]

    def _attribution(self, request: StorageRequest, operation: str) -> str:
        """Of what is written from the page cache, cgroup v2 accounts each file to one cgroup."""
        is_cached = request.inode and operation == "write"
        is_owned = self._cgroups.version > 1 and request.cgroup_id > workloads.ROOT_ID
        return "inode" if is_cached and is_owned else "cgroup"

    def _identity(self, request: StorageRequest) -> bytes:
        """Trace and span id: the same however often the request is told."""
        words = (
            self._boot_id,
            request.device,
            request.complete_boot_ns,
            request.start_boot_ns or request.issue_boot_ns,
            request.sector,
            request.cgroup_id,
        )
        size = reports.TRACE_ID_BYTES + reports.SPAN_ID_BYTES
        return hashlib.blake2b("\0".join(map(str, words)).encode(), digest_size=size).digest()


def _stages(request: StorageRequest, boot_to_unix_ns: int) -> Iterator[reports.Stage]:
    """Those whose time is known."""
    queue, device = semconv.Layer.BLOCK_QUEUE, semconv.Layer.DEVICE
    if request.start_boot_ns:
        yield reports.Stage(STARTED, queue, request.start_boot_ns + boot_to_unix_ns)
    if request.issue_boot_ns:
        yield reports.Stage(ISSUED, queue, request.issue_boot_ns + boot_to_unix_ns)
    yield reports.Stage(COMPLETED, device, request.complete_boot_ns + boot_to_unix_ns)


@functools.cache
def _flags(bits: int) -> bytes:
    return wire_values.text_elements(f.name.lower() for f in _NAMED_FLAGS if bits & f and f.name)


@functools.cache
def _elements(reasons: tuple[str, ...]) -> bytes:
    return wire_values.text_elements(filter(None, reasons))


def _verdict(request: StorageRequest, stages: Sequence[reports.Stage]) -> reports.Verdict | None:
    """The longest gap, None if its layer is not known."""
    if not request.issue_boot_ns:
        return None
    verdict = reports.longest_gap(stages)
    if request.flags & _AFTER_FLUSH and verdict.end == ISSUED:
        return None
    return verdict


def _body(
    request: StorageRequest,
    operation: str,
    device: str,
    whole_ns: int,
    verdict: reports.Verdict | None,
) -> str:
    """One line that a person can read."""
    of = f" of {text.size(request.data_bytes)}" if request.data_bytes else ""
    took = f"storage: {operation}{of} on {device} took {whole_ns / _NS_PER_MS:.1f} ms"
    if verdict is None:
        return f"{took}; in which layer is not known"
    where = "at the device" if verdict.layer == semconv.Layer.DEVICE else "in the queue before it"
    return f"{took}, {verdict.share:.0%} of it {where}"
