"""Streams as OTLP metrics: cumulative exponential histograms and sums, one resource a cgroup.

There can be thousands of points, so they are written in the wire form. Of a point that did not
move only its time is new, so what is around the time is kept from collection to collection.
"""

from __future__ import annotations

import heapq
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from otel_oom import semconv
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.pipeline.otlp import wire, wire_values
from otel_oom.receivers.storage import attributes, encode, histogram, slow
from otel_oom.receivers.storage.histogram import Histogram
from otel_oom.receivers.storage.streams import Point, Stream, Value
from otel_oom.receivers.storage.tiers import Exemplar

_POINTS_A_BATCH = 2000
_MOST_EXEMPLARS = 4
_BYTE = 0x80
_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE

_pack_double = struct.Struct("<d").pack
_TYPES = {key: attribute.type for key, attribute in semconv.ATTRIBUTES.items()}


class _Point:
    """Fields of both kinds of data point (opentelemetry-proto, metrics/v1/metrics.proto)."""

    START, TIME = wire.tag(2, wire.EIGHT_BYTES), wire.tag(3, wire.EIGHT_BYTES)


class _Histogram:
    """Fields of `ExponentialHistogramDataPoint`, and of its `Buckets`."""

    ATTRIBUTES = wire_values.attributes(1, _TYPES)
    COUNT, SUM = wire.tag(4, wire.EIGHT_BYTES), wire.tag(5, wire.EIGHT_BYTES)
    SCALE = wire.integer(6, histogram.SCALE << 1)  # sint32: zigzag
    ZEROS = wire.tag(7, wire.EIGHT_BYTES)
    ZERO_THRESHOLD = wire.tag(14, wire.EIGHT_BYTES) + _pack_double(histogram.ZERO_THRESHOLD_S)
    POSITIVE, EXEMPLAR = 8, 11
    OFFSET, BUCKET_COUNTS = 1, 2
    METRIC_FIELD = 10
    AFTER_POINTS = wire.integer(2, _CUMULATIVE)


class _Number:
    """Fields of `NumberDataPoint` and `Sum`."""

    ATTRIBUTES = wire_values.attributes(7, _TYPES)
    AS_INT = wire.tag(6, wire.EIGHT_BYTES)
    METRIC_FIELD = 7
    AFTER_POINTS = wire.integer(2, _CUMULATIVE) + wire.integer(3, 1)


class _Exemplar:
    """Fields of `Exemplar`."""

    TIME, VALUE = wire.tag(2, wire.EIGHT_BYTES), wire.tag(3, wire.EIGHT_BYTES)
    SPAN_ID = wire.tag(4, wire.LENGTH) + wire.varint(encode.SPAN_ID_BYTES)
    TRACE_ID = wire.tag(5, wire.LENGTH) + wire.varint(encode.TRACE_ID_BYTES)


class _Encoded(NamedTuple):
    """A point around its time."""

    start_ns: int
    total: Value
    before: bytes
    after: bytes


class Encoder:
    """Makes batches of points, and keeps the exemplars that the next collection gets."""

    def __init__(self, version: str) -> None:
        scope = InstrumentationScope(name=semconv.SCOPE_STORAGE, version=version)
        self._scope_start = wire.message(1, scope.SerializeToString())
        self._scope_end = wire.text(3, semconv.SCHEMA_URL)
        self._encoded: dict[Stream, _Encoded] = {}
        self._exemplars: dict[Stream, list[tuple[float, int, Exemplar]]] = {}
        self._numbers = itertools.count()

    def exemplar(self, stream: Stream, example: Exemplar) -> None:
        """Keep a slow span for the next collection; of each stream the four slowest are kept."""
        kept = self._exemplars.setdefault(stream, [])
        entry = (example.value_s, next(self._numbers), example)
        if len(kept) < _MOST_EXEMPLARS:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)

    def batches(self, points: Sequence[Point], now_ns: int) -> Iterator[Batch]:
        """The points, in batches that any receiver takes; a stream that has none is forgotten."""
        streams = {point.stream for point in points}
        for stream in self._encoded.keys() - streams:
            del self._encoded[stream]
        for first in range(0, len(points), _POINTS_A_BATCH):
            some = points[first : first + _POINTS_A_BATCH]
            yield Batch(Signal.METRICS, self._data(some, now_ns), len(some))
        self._exemplars.clear()

    def _data(self, points: Sequence[Point], now_ns: int) -> bytes:
        """`MetricsData`."""
        now = wire.eight_bytes(now_ns)
        resources: dict[str | int | None, dict[semconv.Metric, list[bytes]]] = {}
        for point in points:
            metrics = resources.setdefault(point.stream.cgroup, {})
            encoded = metrics.setdefault(point.stream.metric, [])
            encoded += self._point(point, now)
        return b"".join(itertools.starmap(self._resource, resources.items()))

    def _resource(
        self, cgroup: str | int | None, metrics: dict[semconv.Metric, list[bytes]]
    ) -> bytes:
        """`ResourceMetrics`, as a field of `MetricsData`."""
        encoded = (_metric(metric, points) for metric, points in metrics.items())
        scope = b"".join((self._scope_start, *encoded, self._scope_end))
        return wire.message(
            1, wire.message(1, attributes.workload(cgroup)) + wire.message(2, scope)
        )

    def _point(self, point: Point, now: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        """A data point as a field of its metric: what is around its time is kept."""
        kept = self._encoded.get(point.stream)
        if kept is None or kept.total is not point.total or kept.start_ns != point.start_ns:
            kept = self._encoded[point.stream] = _encode(point)
        after = kept.after
        examples = self._exemplars.get(point.stream)
        if examples and isinstance(point.total, Histogram):
            after = _with_exemplars(after, (example for *_, example in sorted(examples)))
        size = wire.varint(len(kept.before) + len(_Point.TIME) + len(now) + len(after))
        head = wire.tag(1, wire.LENGTH) + size + kept.before
        return head, _Point.TIME, now, after


def _metric(metric: semconv.Metric, points: Sequence[bytes]) -> bytes:
    """`Metric`, as a field of `ScopeMetrics`."""
    form = _Number if metric is semconv.METRIC_OPERATION_ERRORS else _Histogram
    data = b"".join((*points, form.AFTER_POINTS))
    head = wire.text(1, metric.name) + wire.text(2, metric.brief) + wire.text(3, metric.unit)
    return wire.message(2, head + wire.message(form.METRIC_FIELD, data))


def _encode(point: Point) -> _Encoded:
    if isinstance(point.total, Histogram):
        forms, after = _Histogram.ATTRIBUTES, _counts(point.total)
    else:
        forms, after = _Number.ATTRIBUTES, _Number.AS_INT + wire.eight_bytes(point.total)
    named = b"".join(forms[key].of(value) for key, value in _attributes(point.stream))
    start = _Point.START + wire.eight_bytes(point.start_ns)
    if isinstance(point.total, Histogram):
        return _Encoded(point.start_ns, point.total, named + start, after)
    return _Encoded(point.start_ns, point.total, start, after + named)


def _attributes(stream: Stream) -> Iterator[tuple[str, str | bool]]:
    yield semconv.OPERATION, stream.operation
    if direction := slow.DIRECTIONS.get(stream.operation):
        yield semconv.DISK_IO_DIRECTION, direction
    if stream.device:
        yield semconv.SYSTEM_DEVICE, stream.device
    if stream.is_overflow:
        yield semconv.METRIC_OVERFLOW, True
    if stream.error:
        yield semconv.ERROR_TYPE, stream.error


def _counts(total: Histogram) -> bytes:
    """The numbers of a histogram; the empty buckets at both ends are left out."""
    filled = list(itertools.compress(range(len(total.buckets)), total.buckets))
    count = total.zeros
    positive = b""
    if filled:
        counts = total.buckets[filled[0] : filled[-1] + 1]
        count += sum(counts)
        offset = histogram.FIRST_BUCKET + filled[0]
        positive = wire.message(_Histogram.POSITIVE, _offset(offset) + _packed(counts))
    return b"".join(
        (
            _Histogram.COUNT,
            wire.eight_bytes(count),
            _Histogram.SUM,
            _pack_double(total.sum_ns / 1e9),
            _Histogram.SCALE,
            _Histogram.ZEROS + wire.eight_bytes(total.zeros) if total.zeros else b"",
            positive,
            _Histogram.ZERO_THRESHOLD,
        )
    )


def _offset(index: int) -> bytes:
    """A `sint32` in zigzag; zero, the default, is not written."""
    return (
        wire.integer(_Histogram.OFFSET, index * 2 if index >= 0 else -index * 2 - 1)
        if index
        else b""
    )


def _packed(counts: Sequence[int]) -> bytes:
    """Bucket counts as packed varints: most are small, and a byte each."""
    small = max(counts) < _BYTE
    content = bytes(counts) if small else b"".join(map(wire.varint, counts))
    return wire.message(_Histogram.BUCKET_COUNTS, content)


def _with_exemplars(after: bytes, examples: Iterable[Exemplar]) -> bytes:
    """Put exemplars before the zero threshold, which is last."""
    encoded = b"".join(wire.message(_Histogram.EXEMPLAR, _exemplar(one)) for one in examples)
    return after.removesuffix(_Histogram.ZERO_THRESHOLD) + encoded + _Histogram.ZERO_THRESHOLD


def _exemplar(example: Exemplar) -> bytes:
    return b"".join(
        (
            _Exemplar.TIME,
            wire.eight_bytes(example.unix_ns),
            _Exemplar.VALUE,
            _pack_double(example.value_s),
            _Exemplar.SPAN_ID,
            example.span_id,
            _Exemplar.TRACE_ID,
            example.trace_id,
        )
    )
