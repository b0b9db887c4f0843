"""The attributes of a slow operation and of a workload, in the wire form."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from otel_oom import semconv
from otel_oom.pipeline.otlp import wire, wire_values
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
    """Those of slow operations, for their log records and for their spans.

    The one differ from the other in the number of the field alone. What comes again is kept, whole.
    """

    def __init__(self, log_field: int, span_field: int) -> None:
        self._attributes = table = of_field(log_field)
        self._span_tag = wire.tag(span_field, wire.LENGTH)
        self._subject = functools.lru_cache(_MOST_KEPT)(self._make_subject)
        self._verdict = functools.lru_cache(_MOST_KEPT)(self._make_verdict)
        self._pid = table[semconv.PROCESS_PID]
        self._requests = table[semconv.STORAGE_REQUESTS]
        self._inode = table[semconv.FILE_INODE].of
        self._gap = table[semconv.DELAY_GAP].of
        self._share = table[semconv.DELAY_SHARE].of
        self._bytes = table[semconv.STORAGE_BYTES]
        self._sector = table[semconv.STORAGE_SECTOR].of
        self._reclaim = table[semconv.RECLAIM_DURATION].of

    def of(self, slow: Slow) -> tuple[bytes, bytes]:
        """Of one operation: for its log record, for its span."""
        verdict = slow.verdict
        log, span = self._subject(slow.subject)
        log_verdict, span_verdict = self._verdict(
            verdict.layer, verdict.start, verdict.end, verdict.threshold
        )
        own, tag = self._own(slow), self._span_tag
        return (
            b"".join((log, log_verdict, *own)),
            b"".join((span, span_verdict, *[tag + each[1:] for each in own])),
        )

    def _own(self, slow: Slow) -> list[bytes]:
        """What is another for each operation."""
        verdict, own = slow.verdict, []
        if slow.pid:
            own.append(self._pid[slow.pid])
        if slow.inode:
            own.append(self._inode(str(slow.inode)))
        if verdict.layer:
            own.append(self._gap(verdict.gap_ns / _NS_PER_S))
            own.append(self._share(verdict.share))
        if slow.bytes is not None:
            own.append(self._bytes[slow.bytes])
        if slow.requests:
            own.append(self._requests[slow.requests])
        if slow.sector is not None:
            own.append(self._sector(slow.sector))
        if slow.reclaim_ns:
            own.append(self._reclaim(slow.reclaim_ns / _NS_PER_S))
        return own

    def _make_subject(self, subject: Subject) -> tuple[bytes, bytes]:
        """What is not known is not there."""
        missing = (f"{key}: {reason}" for key, reason in subject.missing)
        return self._both(
            {
                semconv.PROCESS_EXECUTABLE_NAME: subject.executable,
                semconv.OPERATION: subject.operation,
                semconv.DISK_IO_DIRECTION: subject.direction,
                semconv.SYSTEM_DEVICE: subject.device,
                semconv.FILE_PATH: subject.path,
                semconv.FILESYSTEM_TYPE: subject.filesystem,
                semconv.ATTRIBUTION: subject.attribution,
                semconv.ERROR_TYPE: subject.error,
                semconv.STORAGE_FLAGS: wire_values.text_elements(subject.flags),
                semconv.STORAGE_MERGED: subject.is_merged,
                semconv.STORAGE_MISSING: wire_values.text_elements(missing),
            }
        )

    def _make_verdict(
        self, layer: str, start: str, end: str, threshold: str
    ) -> tuple[bytes, bytes]:
        return self._both(
            {
                semconv.DELAY_LAYER: layer,
                semconv.DELAY_FROM: start,
                semconv.DELAY_TO: end,
                semconv.THRESHOLD: threshold,
            }
        )

    def _both(self, values: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """Those that have a value, as fields of a log record and of a span."""
        known = {key: value for key, value in values.items() if value not in ("", b"", None)}
        log = [self._attributes[key].of(value) for key, value in known.items()]
        return b"".join(log), b"".join(self._span_tag + each[1:] for each in log)
