"""The attributes of a slow operation and of a workload, in the wire form."""

from __future__ import annotations

import functools

from otel_oom import semconv
from otel_oom.pipeline.otlp import wire_values
from otel_oom.receivers.storage.slow import Slow, Subject

_MOST_KEPT = 1024
_NS_PER_S = 1e9
_TYPES = {key: attribute.type for key, attribute in semconv.ATTRIBUTES.items()}


@functools.cache
def of_field(number: int) -> dict[str, wire_values.Attribute]:
    """All attributes, as the field of this number of the message that has them."""
    return wire_values.attributes(number, _TYPES)


def workload(cgroup: str | int | None) -> bytes:
    """Those of a `Resource`: the cgroup's path, else its id, else nothing."""
    if cgroup is None:
        return b""
    key = semconv.PROCESS_LINUX_CGROUP if isinstance(cgroup, str) else semconv.STORAGE_CGROUP_ID
    return of_field(1)[key][cgroup]


class Table:
    """Attributes as the field of one number. What comes again is kept, whole."""

    def __init__(self, number: int) -> None:
        self._attributes = table = of_field(number)
        self._subject = functools.lru_cache(_MOST_KEPT)(self._make_subject)
        self._verdict = functools.lru_cache(_MOST_KEPT)(self._make_verdict)
        self._pid = table[semconv.PROCESS_PID]
        self._requests = table[semconv.STORAGE_REQUESTS]
        self._gap = table[semconv.DELAY_GAP].of
        self._share = table[semconv.DELAY_SHARE].of
        self._bytes = table[semconv.STORAGE_BYTES].of
        self._sector = table[semconv.STORAGE_SECTOR].of
        self._reclaim = table[semconv.RECLAIM_DURATION].of

    def of(self, slow: Slow) -> tuple[bytes, ...]:
        """Of one operation, in the order of the tables in docs/."""
        verdict = slow.verdict
        return (
            self._pid[slow.pid] if slow.pid else b"",
            self._subject(slow.subject),
            self._verdict(verdict.layer, verdict.start, verdict.end, verdict.threshold),
            self._gap(verdict.gap_ns / _NS_PER_S) if verdict.layer else b"",
            self._share(verdict.share) if verdict.layer else b"",
            b"" if slow.bytes is None else self._bytes(slow.bytes),
            self._requests[slow.requests] if slow.requests else b"",
            b"" if slow.sector is None else self._sector(slow.sector),
            self._reclaim(slow.reclaim_ns / _NS_PER_S) if slow.reclaim_ns else b"",
        )

    def _make_subject(self, subject: Subject) -> bytes:
        """What is not known is not there."""
        missing = (f"{key}: {reason}" for key, reason in subject.missing)
        values = {
            semconv.PROCESS_EXECUTABLE_NAME: subject.executable,
            semconv.OPERATION: subject.operation,
            semconv.DISK_IO_DIRECTION: subject.direction,
            semconv.SYSTEM_DEVICE: subject.device,
            semconv.FILE_INODE: str(subject.inode) if subject.inode else "",
            semconv.FILE_PATH: subject.path,
            semconv.FILESYSTEM_TYPE: subject.filesystem,
            semconv.ATTRIBUTION: subject.attribution,
            semconv.ERROR_TYPE: subject.error,
            semconv.STORAGE_FLAGS: wire_values.text_elements(subject.flags),
            semconv.STORAGE_MERGED: subject.is_merged,
            semconv.STORAGE_MISSING: wire_values.text_elements(missing),
        }
        table = self._attributes
        known = {key: value for key, value in values.items() if value not in ("", b"", None)}
        return b"".join(table[key].of(value) for key, value in known.items())

    def _make_verdict(self, layer: str, start: str, end: str, threshold: str) -> bytes:
        values = {
            semconv.DELAY_LAYER: layer,
            semconv.DELAY_FROM: start,
            semconv.DELAY_TO: end,
            semconv.THRESHOLD: threshold,
        }
        return b"".join(self._attributes[key].of(value) for key, value in values.items() if value)
