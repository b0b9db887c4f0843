"""A slow block request in the terms of a slow operation: where it waited, for whom, for which file.

A request alone tells of two layers, the queue before the driver and the device behind it. Who
asked is whom the kernel accounts the request to; the process is not known here.
"""

from __future__ import annotations

import fnmatch
import functools
import pathlib
from collections.abc import Iterator

from otel_oom import semconv
from otel_oom.bpf.storage_events import StorageOperation, StorageRequest, StorageRequestFlag
from otel_oom.pipeline import mounts
from otel_oom.receivers.storage import block, devices, histogram, slow, verdict, workloads
from otel_oom.receivers.storage.config import Config
from otel_oom.receivers.storage.slow import Slow, Subject
from otel_oom.receivers.storage.stages import kind
from otel_oom.receivers.storage.timeline import Timeline

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
_FLUSH = StorageOperation.FLUSH.value
_VERDICT = "storage.delay.*"
_NO_START = (STARTED, "the queue keeps no statistics (iostats)")
_NO_ISSUE = (f"{ISSUED}, {_VERDICT}", "the kernel did not keep when the driver was given it")
_OWN_FLUSH = (_VERDICT, "before its issue it waited for a flush of its own, or in the queue")
_NO_FILE = (
    semconv.FILE_INODE,
    "the block is no mounted file's: it is the filesystem's own, or the disk's",
)
_NS_PER_S = 10**9

_QUEUE, _DEVICE = semconv.Layer.BLOCK_QUEUE.value, semconv.Layer.DEVICE.value
_STAGES = [
    kind(STARTED, _QUEUE, is_running=False),
    kind(ISSUED, _QUEUE, is_running=False),
    kind(COMPLETED, _DEVICE, is_running=False),
]


class Reporter:
    """Makes slow operations of the requests that are asked for."""

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
        self._types: dict[int, str | None] = {}

    def refresh(self) -> None:
        """Look anew at what is mounted."""
        self._types.clear()

    def report(self, request: StorageRequest) -> Slow | None:
        """The request, judged, on CLOCK_BOOTTIME; None if the options leave it out."""
        operation = OPERATIONS.get(request.operation, "other")
        disk = self._disks.get(request.device)
        if not self._is_asked_for(request, operation, disk):
            return None
        type_ = self._type(request.inode_device) if request.inode else None
        line = _line(request, has_file=type_ is not None or not request.inode)
        return Slow(
            identity=_identity(request),
            cgroup_id=request.cgroup_id,
            subject=self._subject(request, operation, disk, type_, line.missing),
            line=line,
            verdict=self._verdict(request, line),
            inode=request.inode if type_ else 0,
            bytes=request.data_bytes,
            requests=1,
            sector=None if request.operation == _FLUSH else request.sector,
        )

    def _is_asked_for(
        self, request: StorageRequest, operation: str, disk: devices.Device | None
    ) -> bool:
        """What is not known fits no pattern: neither a request's process nor its path is."""
        only = self._config.filter
        if only.process or only.path or operation not in self._config.operations:
            return False
        if disk is not None and not disk.is_told_of:
            return False
        if not only.cgroup:
            return True
        cgroup = self._cgroups.path(request.cgroup_id) or ""
        return any(fnmatch.fnmatchcase(cgroup, pattern) for pattern in only.cgroup)

    def _verdict(self, request: StorageRequest, line: Timeline) -> verdict.Verdict:
        """The longest gap, unless its layer is not known."""
        whole_ns = line.times_ns[-1] - line.times_ns[0]
        threshold = verdict.TOTAL if whole_ns >= self._total_ns else verdict.STAGE
        if not request.issue_boot_ns:
            return verdict.unknown(threshold)
        found = verdict.of(line, threshold)
        if request.flags & _AFTER_FLUSH and found.end == ISSUED:
            return verdict.unknown(threshold)
        return found

    def _subject(
        self,
        request: StorageRequest,
        operation: str,
        disk: devices.Device | None,
        type_: str | None,
        missing: tuple[tuple[str, str], ...],
    ) -> Subject:
        return Subject(
            operation=operation,
            direction=slow.DIRECTIONS.get(operation, ""),
            device=disk.name if disk else "{}:{}".format(*histogram.major_minor(request.device)),
            filesystem=type_ or "",
            attribution=self._attribution(request, operation),
            error=block.error_type(request.status) if request.status else "",
            flags=_flags(request.flags),
            is_merged=bool(request.flags & _MERGED),
            missing=missing,
        )

    def _type(self, device: int) -> str | None:
        """The type of the filesystem on a device; None is remembered until `refresh`."""
        if device not in self._types:
            self._types = {device: None, **mounts.filesystem_types(self._root)}
        return self._types[device]

    def _attribution(self, request: StorageRequest, operation: str) -> str:
        """Of what is written from the page cache, cgroup v2 accounts each file to one cgroup."""
        is_cached = request.inode and operation == "write"
        is_owned = self._cgroups.version > 1 and request.cgroup_id > workloads.ROOT_ID
        return slow.INODE if is_cached and is_owned else slow.CGROUP


def _identity(request: StorageRequest) -> tuple[int, ...]:
    return (
        request.device,
        request.complete_boot_ns,
        request.start_boot_ns or request.issue_boot_ns,
        request.sector,
        request.cgroup_id,
    )


def _line(request: StorageRequest, *, has_file: bool) -> Timeline:
    """Stages whose time is known, and what is missing."""
    times_ns = [request.start_boot_ns, request.issue_boot_ns, request.complete_boot_ns]
    missing = tuple(_missing(request, has_file=has_file))
    if all(times_ns):
        return Timeline(_STAGES, times_ns, [], 0, missing)
    known = [
        (stage, time_ns)
        for stage, time_ns in zip(_STAGES, times_ns, strict=True)
        if time_ns or stage.name == COMPLETED
    ]
    return Timeline(
        [stage for stage, _ in known], [time_ns for _, time_ns in known], [], 0, missing
    )


def _missing(request: StorageRequest, *, has_file: bool) -> Iterator[tuple[str, str]]:
    if not request.start_boot_ns:
        yield _NO_START
    if not request.issue_boot_ns:
        yield _NO_ISSUE
    if request.flags & _AFTER_FLUSH:
        yield _OWN_FLUSH
    if not has_file:
        yield _NO_FILE


@functools.cache
def _flags(bits: int) -> tuple[str, ...]:
    return tuple(f.name.lower() for f in _NAMED_FLAGS if bits & f and f.name)
