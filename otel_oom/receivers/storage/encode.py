"""Slow operations as OTLP: of each a span with an event a stage, and a log record.

Ids are made from the boot id and the operation's own numbers, so the same operation has the
same ids however often it is sent. Operations of one cgroup share a resource. They may come by
the ten thousand a second, so they are written in the wire form, and what comes again from
one to the next is kept.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_oom import semconv
from otel_oom.pipeline import data
from otel_oom.pipeline.incidents import Incident
from otel_oom.pipeline.otlp import wire, wire_values
from otel_oom.receivers.storage import attributes, words
from otel_oom.receivers.storage.shapes import Shapes
from otel_oom.receivers.storage.slow import Slow

TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
_LOG_ATTRIBUTES, _SPAN_ATTRIBUTES = 6, 9
_MOST_KEPT, _MOST_IDS_KEPT = 1024, 4096
_MOST_LINKS = 16
_ITEM = wire.tag(2, wire.LENGTH)
"""Before a log record or a span in what is around it."""


SUBMITTER = "submitter"
"""What a link is to the call that submitted an asynchronous operation."""

Overlapping = Callable[[str, int, int], Sequence[Incident]]
"""What befell the cgroup of a path within a time, from and to in Unix nanoseconds."""


class _Log:
    """Fields of `LogRecord` (logs/v1/logs.proto), or what precedes them."""

    TIME, OBSERVED_TIME = wire.tag(1, wire.EIGHT_BYTES), wire.tag(11, wire.EIGHT_BYTES)
    SEVERITY = wire.integer(2, SeverityNumber.SEVERITY_NUMBER_WARN) + wire.text(3, "WARN")
    BODY = wire_values.before_text(5)
    UID = attributes.of_field(6)[semconv.LOG_RECORD_UID].of
    TRACE_ID = wire.tag(9, wire.LENGTH) + wire.varint(TRACE_ID_BYTES)
    SPAN_ID = wire.tag(10, wire.LENGTH) + wire.varint(SPAN_ID_BYTES)
    EVENT_NAME = wire.text(12, semconv.EVENT_SLOW_OPERATION)


class _Span:
    """Fields of `Span` (trace/v1/trace.proto), or what precedes them."""

    TRACE_ID = wire.tag(1, wire.LENGTH) + wire.varint(TRACE_ID_BYTES)
    SPAN_ID = wire.tag(2, wire.LENGTH) + wire.varint(SPAN_ID_BYTES)
    KIND = wire.integer(6, Span.SpanKind.SPAN_KIND_INTERNAL)
    START, END = wire.tag(7, wire.EIGHT_BYTES), wire.tag(8, wire.EIGHT_BYTES)
    LINK, LEFT_OUT_LINKS, STATUS = 13, 14, 15


class _Link:
    """Fields of `Span.Link`."""

    TRACE_ID, SPAN_ID = 1, 2
    WHAT = attributes.of_field(4)[semconv.OVERLAP]


class Encoder:
    """Makes OTLP of slow operations. `cgroup_path` is None of a cgroup that nobody knows."""

    def __init__(
        self,
        *,
        boot_id: str,
        version: str,
        cgroup_path: Callable[[int], str | None],
        overlapping: Overlapping | None = None,
    ) -> None:
        self._boot_id = boot_id.encode()
        self._cgroup_path = cgroup_path
        self._overlapping = overlapping
        self._shapes = Shapes()
        self._attributes = attributes.Table(_LOG_ATTRIBUTES, _SPAN_ATTRIBUTES)
        self.ids = functools.lru_cache(_MOST_IDS_KEPT)(self._make_ids)
        """Trace id and span id of the operation with this identity."""
        scope = InstrumentationScope(name=semconv.SCOPE_STORAGE, version=version)
        self._scope_start = wire.message(1, scope.SerializeToString())
        self._scope_end = wire.text(3, semconv.SCHEMA_URL)

    def batches(
        self, slows: Sequence[Slow], to_unix_ns: int, now_ns: int
    ) -> tuple[data.Batch, data.Batch]:
        """Log records and spans, one of each an operation; `to_unix_ns` turns its clock to Unix's.

        `LogsData` and `TracesData`, and what is around the items in them, have the same fields.
        """
        by_cgroup: dict[int, list[Slow]] = {}
        for slow in slows:
            by_cgroup.setdefault(slow.cgroup_id, []).append(slow)
        logs, spans = [], []
        for cgroup_id, found in by_cgroup.items():
            path = self._cgroup_path(cgroup_id)
            workload = attributes.workload(path or cgroup_id or None)
            encoded = [self._encode(slow, path, to_unix_ns, now_ns) for slow in found]
            logs.append(self._resource(workload, (log for log, _ in encoded)))
            spans.append(self._resource(workload, (span for _, span in encoded)))
        return (
            data.Batch(data.Signal.LOGS, b"".join(logs), len(slows)),
            data.Batch(data.Signal.TRACES, b"".join(spans), len(slows)),
        )

    def _resource(self, workload: bytes, items: Iterable[bytes]) -> bytes:
        parts = [self._scope_start]
        for item in items:
            parts += _ITEM, wire.varint(len(item)), item
        parts.append(self._scope_end)
        scope = b"".join(parts)
        return wire.message(1, wire.message(1, workload) + wire.message(2, scope))

    def _encode(
        self, slow: Slow, path: str | None, to_unix_ns: int, now_ns: int
    ) -> tuple[bytes, bytes]:
        """The `LogRecord` and the `Span` of one operation; `path` is its cgroup's."""
        line, error = slow.line, slow.subject.error
        trace_id, span_id = self.ids(slow.identity)
        times_ns = [time_ns + to_unix_ns for time_ns in line.times_ns]
        end = wire.eight_bytes(times_ns[-1])
        text = words.body(slow).encode()
        log_attributes, span_attributes = self._attributes.of(slow)
        log = (
            _Log.TIME,
            end,
            _Log.SEVERITY,
            _Log.BODY[len(text)],
            text,
            log_attributes,
            self._shapes.log_stages(line.kinds, line.times_ns),
            _Log.UID((trace_id + span_id).hex()),
            _Log.TRACE_ID,
            trace_id,
            _Log.SPAN_ID,
            span_id,
            _Log.OBSERVED_TIME,
            wire.eight_bytes(now_ns),
            _Log.EVENT_NAME,
        )
        span = (
            _Span.TRACE_ID,
            trace_id,
            _Span.SPAN_ID,
            span_id,
            _name(slow.subject.operation),
            _Span.START,
            wire.eight_bytes(times_ns[0]),
            _Span.END,
            end,
            span_attributes,
            self._shapes.span_events(line.kinds, times_ns),
            self._submitter(slow.submitter) if slow.submitter else b"",
            self._links(path, times_ns) if path is not None else b"",
            _status(error) if error else b"",
        )
        return b"".join(log), b"".join(span)

    def _make_ids(self, identity: tuple[int, ...]) -> tuple[bytes, bytes]:
        text = b"%b\0%b" % (self._boot_id, repr(identity).encode())
        digest = hashlib.blake2b(text, digest_size=TRACE_ID_BYTES + SPAN_ID_BYTES).digest()
        return digest[:TRACE_ID_BYTES], digest[TRACE_ID_BYTES:]

    def _submitter(self, identity: tuple[int, ...]) -> bytes:
        """The link of an asynchronous operation to the call that submitted it."""
        return _link(*self.ids(identity), SUBMITTER)

    def _links(self, path: str, times_ns: list[int]) -> bytes:
        """Links to what overlaps the operation in its cgroup."""
        if self._overlapping is None:
            return b""
        found = self._overlapping(path, times_ns[0], times_ns[-1])
        links = b"".join(
            _link(each.trace_id, each.span_id, each.what) for each in found[:_MOST_LINKS]
        )
        left_out = len(found) - _MOST_LINKS
        return links + wire.integer(_Span.LEFT_OUT_LINKS, left_out) if left_out > 0 else links


def _link(trace_id: bytes, span_id: bytes, what: str) -> bytes:
    content = (
        wire.message(_Link.TRACE_ID, trace_id),
        wire.message(_Link.SPAN_ID, span_id),
        _Link.WHAT[what],
    )
    return wire.message(_Span.LINK, b"".join(content))


@functools.cache
def _name(operation: str) -> bytes:
    """Name and kind of a span."""
    return wire.text(5, semconv.SPAN_STORAGE_PREFIX + operation) + _Span.KIND


@functools.lru_cache(_MOST_KEPT)
def _status(error: str) -> bytes:
    """The status ERROR, with what the error's name means where that is known."""
    number = getattr(errno, error, 0)
    message = wire.text(2, os.strerror(number)) if number else b""
    code = wire.integer(3, Status.StatusCode.STATUS_CODE_ERROR)
    return wire.message(_Span.STATUS, message + code)
