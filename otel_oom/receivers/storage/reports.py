"""A slow operation as OTLP: one span with an event per stage, and one log record with all of it.

Both have the same ids and the same attributes. They can come by the ten thousand a second, so
they are written in the wire form; each part that comes again is made once.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_oom import semconv
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.pipeline.otlp import wire, wire_values

TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
DIRECTIONS = {"read": "read", "write": "write", "write_zeroes": "write", "zone_append": "write"}
"""`disk.io.direction` of the operations that move data; a discard moves none."""

_TYPES = {key: attribute.type for key, attribute in semconv.ATTRIBUTES.items()}
_RESOURCE = wire_values.attributes(1, _TYPES)
_ITEM = wire.tag(2, wire.LENGTH)
_NS_PER_S = 10**9


_Scopes = dict[str | int | None, list[bytes]]
"""Encoded items by cgroup."""

_OWN = frozenset((semconv.STORAGE_SECTOR, semconv.FILE_INODE, semconv.FILE_PATH))
"""Attributes that are of one operation; others come again, and are kept."""


class Stage(NamedTuple):
    """Something that happened in an operation; `layer` is that of the gap which ends here."""

    name: str
    layer: semconv.Layer
    unix_ns: int


class Verdict(NamedTuple):
    """The longest gap between two stages, and what part of the whole it is."""

    layer: semconv.Layer
    begin: str
    end: str
    gap_ns: int
    share: float


class Report(NamedTuple):
    """A slow operation. `stages`: two at least, in the order of time.

    `attributes` are those that are not made of the other fields; an array is encoded already, as
    `wire_values` says. `cgroup` is the path, the id where that is not known, or None. `error` is
    the error's name. `body` is one line for a person.
    """

    operation: str
    stages: Sequence[Stage]
    verdict: Verdict | None
    threshold: str
    trace_id: bytes
    span_id: bytes
    cgroup: str | int | None
    attributes: Mapping[str, Any]
    body: str
    error: str = ""


def longest_gap(stages: Sequence[Stage]) -> Verdict:
    """The verdict of stages of which every one is known."""
    whole_ns = stages[-1].unix_ns - stages[0].unix_ns
    begin, end = max(itertools.pairwise(stages), key=lambda pair: pair[1].unix_ns - pair[0].unix_ns)
    gap_ns = end.unix_ns - begin.unix_ns
    share = gap_ns / whole_ns if whole_ns else 1.0
    return Verdict(end.layer, begin.name, end.name, gap_ns, share)


class _Log:
    """Fields of `LogRecord` (opentelemetry-proto, logs/v1/logs.proto), or what precedes them."""

    TIME, OBSERVED_TIME = wire.tag(1, wire.EIGHT_BYTES), wire.tag(11, wire.EIGHT_BYTES)
    SEVERITY = wire.integer(2, SeverityNumber.SEVERITY_NUMBER_WARN) + wire.text(3, "WARN")
    BODY = wire_values.before_text(5)
    ATTRIBUTES = wire_values.attributes(6, _TYPES)
    TRACE_ID = wire.tag(9, wire.LENGTH) + wire.varint(TRACE_ID_BYTES)
    SPAN_ID = wire.tag(10, wire.LENGTH) + wire.varint(SPAN_ID_BYTES)
    EVENT_NAME = wire.text(12, semconv.EVENT_SLOW_OPERATION)


class _Span:
    """Fields of `Span` and its `Event` (opentelemetry-proto, trace/v1/trace.proto)."""

    TRACE_ID = wire.tag(1, wire.LENGTH) + wire.varint(TRACE_ID_BYTES)
    SPAN_ID = wire.tag(2, wire.LENGTH) + wire.varint(SPAN_ID_BYTES)
    KIND = wire.integer(6, Span.SpanKind.SPAN_KIND_INTERNAL)
    START, END = wire.tag(7, wire.EIGHT_BYTES), wire.tag(8, wire.EIGHT_BYTES)
    ATTRIBUTE = wire.tag(9, wire.LENGTH)
    EVENT = wire.tag(11, wire.LENGTH)
    EVENT_TIME = wire.tag(1, wire.EIGHT_BYTES)
    EVENT_ATTRIBUTES = wire_values.attributes(3, _TYPES)


class _Element:
    """An element of `storage.stages`."""

    _FORMS = wire_values.attributes(1, {"name": "string", "layer": "string", "offset": "double"})
    NAME, LAYER, OFFSET = _FORMS["name"], _FORMS["layer"], _FORMS["offset"].of


class Encoder:
    """Makes spans and log records of reports, one resource a cgroup."""

    def __init__(self, version: str) -> None:
        scope = InstrumentationScope(name=semconv.SCOPE_STORAGE, version=version)
        self._scope_start = wire.message(1, scope.SerializeToString())
        self._scope_end = wire.text(3, semconv.SCHEMA_URL)

    def batches(self, reports: Sequence[Report], now_ns: int) -> tuple[Batch, Batch]:
        """Log records and spans, one of each a report."""
        logs: _Scopes = {}
        spans: _Scopes = {}
        for report in reports:
            attributes = _attributes(report)
            for scopes, encoded in (
                (logs, _log(report, attributes, now_ns)),
                (spans, _span(report, attributes)),
            ):
                items = scopes.setdefault(report.cgroup, [])
                items += _ITEM, wire.varint(len(encoded)), encoded
        return (
            Batch(Signal.LOGS, self._data(logs), len(reports)),
            Batch(Signal.TRACES, self._data(spans), len(reports)),
        )

    def _data(self, scopes: _Scopes) -> bytes:
        """`LogsData` or `TracesData`: they, and what is in them, have the same field numbers."""
        return b"".join(itertools.starmap(self._resource, scopes.items()))

    def _resource(self, cgroup: str | int | None, items: list[bytes]) -> bytes:
        scope = b"".join((self._scope_start, *items, self._scope_end))
        return wire.message(1, wire.message(1, workload(cgroup)) + wire.message(2, scope))


def workload(cgroup: str | int | None) -> bytes:
    """The attributes of a `Resource`: the cgroup's path, else its id, else nothing."""
    if cgroup is None:
        return b""
    key = semconv.PROCESS_LINUX_CGROUP if isinstance(cgroup, str) else semconv.STORAGE_CGROUP_ID
    return _RESOURCE[key][cgroup]


def _log(report: Report, attributes: list[bytes], now_ns: int) -> bytes:
    """The `LogRecord`; its time is when the operation ended, and was found to be slow."""
    text, forms = report.body.encode(), _Log.ATTRIBUTES
    uid = (report.trace_id + report.span_id).hex()
    parts = (
        _Log.TIME,
        wire.eight_bytes(report.stages[-1].unix_ns),
        _Log.SEVERITY,
        _Log.BODY[len(text)],
        text,
        *attributes,
        forms[semconv.STAGES].of(b"".join(_elements(report.stages))),
        forms[semconv.LOG_RECORD_UID].of(uid),
        _Log.TRACE_ID,
        report.trace_id,
        _Log.SPAN_ID,
        report.span_id,
        _Log.OBSERVED_TIME,
        wire.eight_bytes(now_ns),
        _Log.EVENT_NAME,
    )
    return b"".join(parts)


def _span(report: Report, attributes: list[bytes]) -> bytes:
    """The `Span`, from the first stage to the last; its attributes only have another tag."""
    times = [wire.eight_bytes(stage.unix_ns) for stage in report.stages]
    parts = [
        _Span.TRACE_ID,
        report.trace_id,
        _Span.SPAN_ID,
        report.span_id,
        _name(report.operation),
        _Span.KIND,
        _Span.START,
        times[0],
        _Span.END,
        times[-1],
        *[_Span.ATTRIBUTE + attribute[1:] for attribute in attributes],
    ]
    for stage, time in zip(report.stages, times, strict=True):
        before, after = _event(stage.name, stage.layer)
        parts += before, time, after
    parts.append(_status(report.error))
    return b"".join(parts)


def _attributes(report: Report) -> list[bytes]:
    """What a report's log record and span have in common, as the log record has it."""
    forms = _Log.ATTRIBUTES
    parts = [
        forms[semconv.OPERATION][report.operation],
        forms[semconv.THRESHOLD][report.threshold],
    ]
    for key, value in report.attributes.items():
        parts.append(forms[key].of(value) if key in _OWN else forms[key][value])
    if report.error:
        parts.append(forms[semconv.ERROR_TYPE][report.error])
    if report.verdict is not None:
        layer, begin, end, gap_ns, share = report.verdict
        parts += (
            forms[semconv.DELAY_LAYER][layer],
            forms[semconv.DELAY_FROM][begin],
            forms[semconv.DELAY_TO][end],
            forms[semconv.DELAY_GAP].of(gap_ns / _NS_PER_S),
            forms[semconv.DELAY_SHARE].of(share),
        )
    return parts


def _elements(stages: Sequence[Stage]) -> list[bytes]:
    start_ns = stages[0].unix_ns
    return [
        wire_values.map_element(
            _Element.NAME[stage.name]
            + _Element.LAYER[stage.layer]
            + _Element.OFFSET((stage.unix_ns - start_ns) / _NS_PER_S)
        )
        for stage in stages
    ]


@functools.cache
def _name(operation: str) -> bytes:
    return wire.text(5, semconv.SPAN_STORAGE_PREFIX + operation)


@functools.cache
def _event(name: str, layer: semconv.Layer) -> tuple[bytes, bytes]:
    """What is before and after the time of a span's event."""
    after = wire.text(2, name) + _Span.EVENT_ATTRIBUTES[semconv.LAYER].of(layer)
    size = len(_Span.EVENT_TIME) + 8 + len(after)
    return _Span.EVENT + wire.varint(size) + _Span.EVENT_TIME, after


@functools.cache
def _status(error: str) -> bytes:
    if not error:
        return b""
    return wire.message(
        15, wire.text(2, error) + wire.integer(3, Status.StatusCode.STATUS_CODE_ERROR)
    )
