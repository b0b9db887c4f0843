"""What is written in the wire form is what protobuf makes of the same message, number by number."""

from __future__ import annotations

import pytest
from doubles.storage_tier import BOUNDS_S, DEVICE, QUEUE, counted
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    MetricsData,
)

from otel_oom import semconv
from otel_oom.pipeline import data, otlp
from otel_oom.receivers.storage import metrics
from otel_oom.receivers.storage.histogram import BUCKETS, FIRST_BUCKET, Histogram
from otel_oom.receivers.storage.streams import Point, Stream
from otel_oom.receivers.storage.tiers import Exemplar, Key

START_NS, NOW_NS = 1_000, 2_000
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def stream(cgroup: str | int | None = "/a", device: str = "vda", **changes: object) -> Stream:
    return Stream(DEVICE, cgroup, device, "read")._replace(**changes)


def encoded(*points: Point, encoder: metrics.Encoder | None = None) -> MetricsData:
    """The one batch of these points; its bytes are protobuf's own."""
    (batch,) = (encoder or metrics.Encoder("1")).batches(points, NOW_NS)
    assert batch.items == len(points)
    raw = batch.encoded()
    assert isinstance(batch.data, MetricsData)
    assert batch.data.SerializeToString() == raw
    assert data.count_items(batch.data) == len(points)
    return batch.data


def the_point(total: Histogram) -> ExponentialHistogramDataPoint:
    found = encoded(Point(stream(), START_NS, total))
    metric = found.resource_metrics[0].scope_metrics[0].metrics[0]
    return metric.exponential_histogram.data_points[0]


def test_a_histogram_is_whole() -> None:
    total = counted(1e-9, 0.001, 0.001, 4.0)
    found = encoded(Point(stream(), START_NS, total))
    (resource,) = found.resource_metrics
    (scope,) = resource.scope_metrics
    (metric,) = scope.metrics
    (point,) = metric.exponential_histogram.data_points
    assert otlp.attributes(resource.resource.attributes) == {"process.linux.cgroup": "/a"}
    assert (scope.scope.name, scope.scope.version) == ("otel_oom.receivers.storage", "1")
    assert scope.schema_url == semconv.SCHEMA_URL
    assert (metric.name, metric.unit) == ("storage.block.device.duration", "s")
    assert metric.exponential_histogram.aggregation_temporality == CUMULATIVE
    assert otlp.attributes(point.attributes) == {
        "storage.operation": "read",
        "disk.io.direction": "read",
        "system.device": "vda",
    }
    assert (point.start_time_unix_nano, point.time_unix_nano) == (START_NS, NOW_NS)
    assert (point.count, point.zero_count, point.scale) == (4, 1, 3)
    assert point.sum == pytest.approx(4.002)
    assert point.zero_threshold == 2.0**-22
    assert len(point.positive.bucket_counts) == 8 * 12 - 1 + 1  # 12 octaves from 0.001 to 4


@settings(deadline=None)
@given(st.lists(st.floats(1e-9, 1023), min_size=1, max_size=40))
def test_each_time_is_in_the_bucket_that_otlp_says(times: list[float]) -> None:
    """Decoded by OTLP's definition: bucket i is from base^i, exclusive, to base^(i+1)."""
    point = the_point(counted(*times))
    base = 2.0 ** (2.0**-point.scale)
    assert point.count == len(times) == point.zero_count + sum(point.positive.bucket_counts)
    assert point.zero_count == sum(time <= point.zero_threshold for time in times)
    for index, count in enumerate(point.positive.bucket_counts, point.positive.offset):
        low, high = base**index, base ** (index + 1)
        near = [t for t in times if low * (1 - 1e-12) < t <= high * (1 + 1e-12)]
        sure = [t for t in near if low * (1 + 1e-12) < t <= high * (1 - 1e-12)]
        assert len(sure) <= count <= len(near)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**34), min_size=BUCKETS, max_size=BUCKETS), st.integers(0, 2**63))
def test_any_counts_are_written_as_protobuf_does(buckets: list[int], sum_ns: int) -> None:
    point = the_point(Histogram(sum_ns, 3, buckets))
    whole = [0] * BUCKETS
    first = point.positive.offset - FIRST_BUCKET
    whole[first : first + len(point.positive.bucket_counts)] = point.positive.bucket_counts
    assert whole == buckets
    assert point.count == 3 + sum(buckets)


@pytest.mark.parametrize("bucket", [0, 175, 176, 177, BUCKETS - 1])
def test_the_empty_ends_are_left_out(bucket: int) -> None:
    """Also where the offset is negative, zero, and positive."""
    point = the_point(counted(BOUNDS_S[bucket + 1]))
    assert list(point.positive.bucket_counts) == [1]
    assert point.positive.offset == FIRST_BUCKET + bucket


def test_zeros_alone_have_no_buckets() -> None:
    point = the_point(counted(0.0, 1e-9))
    assert (point.count, point.zero_count) == (2, 2)
    assert not point.HasField("positive")


def test_one_resource_a_cgroup_and_one_metric_a_name() -> None:
    streams = [
        stream("/a"),
        stream("/b"),
        stream("/a", "vdb"),
        stream("/a")._replace(metric=QUEUE),
        stream(77),
        stream(None, "", is_overflow=True),
    ]
    found = encoded(*(Point(one, START_NS, counted(0.1)) for one in streams))
    told = {
        tuple(otlp.attributes(resource.resource.attributes).items()): {
            metric.name: len(metric.exponential_histogram.data_points)
            for metric in resource.scope_metrics[0].metrics
        }
        for resource in found.resource_metrics
    }
    device, queue = DEVICE.name, QUEUE.name
    assert told == {
        (("process.linux.cgroup", "/a"),): {device: 2, queue: 1},
        (("process.linux.cgroup", "/b"),): {device: 1},
        (("storage.cgroup.id", 77),): {device: 1},
        (): {device: 1},
    }
    overflow = found.resource_metrics[-1].scope_metrics[0].metrics[0]
    attributes = otlp.attributes(overflow.exponential_histogram.data_points[0].attributes)
    assert attributes["otel.metric.overflow"] is True
    assert "system.device" not in attributes


def test_errors_are_a_sum() -> None:
    errors = semconv.METRIC_OPERATION_ERRORS
    failed = stream(metric=errors, error="EIO", operation="flush")
    found = encoded(Point(failed, START_NS, 5), Point(failed._replace(error="ENOSPC"), 7, 2**40))
    metric = found.resource_metrics[0].scope_metrics[0].metrics[0]
    assert (metric.name, metric.unit) == ("storage.operation.errors", "{operation}")
    assert metric.sum.is_monotonic
    assert metric.sum.aggregation_temporality == CUMULATIVE
    first, second = metric.sum.data_points
    assert (first.as_int, second.as_int, second.start_time_unix_nano) == (5, 2**40, 7)
    assert otlp.attributes(first.attributes) == {
        "storage.operation": "flush",
        "system.device": "vda",
        "error.type": "EIO",
    }


def test_a_point_that_did_not_move_has_a_new_time_and_nothing_else() -> None:
    encoder, total = metrics.Encoder("1"), counted(0.1)
    (first,) = encoder.batches([Point(stream(), START_NS, total)], 5)
    (second,) = encoder.batches([Point(stream(), START_NS, total)], 6)
    (moved,) = encoder.batches([Point(stream(), START_NS, counted(0.1, 0.2))], 7)
    (again,) = encoder.batches([Point(stream(), 4, counted(0.1, 0.2))], 7)
    points = [
        batch.data.resource_metrics[0]
        .scope_metrics[0]
        .metrics[0]
        .exponential_histogram.data_points[0]  # type: ignore[union-attr]
        for batch in (first, second, moved, again)
    ]
    assert [point.time_unix_nano for point in points] == [5, 6, 7, 7]
    assert [point.count for point in points] == [1, 1, 2, 2]
    assert [point.start_time_unix_nano for point in points] == [START_NS] * 3 + [4]


def test_what_is_kept_of_streams_goes_with_them() -> None:
    encoder = metrics.Encoder("1")
    list(encoder.batches([Point(stream(f"/{n}"), 0, counted(1)) for n in range(9)], NOW_NS))
    list(encoder.batches([Point(stream("/1"), 0, counted(1))], NOW_NS))
    assert list(encoder._encoded) == [stream("/1")]
    assert list(encoder.batches([], NOW_NS)) == []
    assert encoder._encoded == {}


def example(value_s: float, number: int = 1) -> Exemplar:
    trace_id, span_id = bytes([number]) * 16, bytes([number]) * 8
    return Exemplar(DEVICE, Key(1, 1, 0), trace_id, span_id, value_s, 1234)


def test_the_slowest_spans_are_examples_once() -> None:
    encoder, total = metrics.Encoder("1"), counted(0.1)
    for number, value_s in enumerate([0.5, 0.1, 0.9, 0.3, 0.2, 0.9]):
        encoder.exemplar(stream(), example(value_s, number))
    points = []
    for _ in range(2):
        found = encoded(Point(stream(), START_NS, total), encoder=encoder)
        points += (
            found.resource_metrics[0].scope_metrics[0].metrics[0].exponential_histogram.data_points
        )
    told = [(one.as_double, one.span_id[0], one.trace_id[0]) for one in points[0].exemplars]
    assert told == [(0.3, 3, 3), (0.5, 0, 0), (0.9, 2, 2), (0.9, 5, 5)]
    assert points[0].exemplars[0].time_unix_nano == 1234
    assert not points[1].exemplars


def test_no_batch_is_larger_than_servers_take() -> None:
    """Servers of gRPC take 4 MiB unless told otherwise."""
    full = Histogram(10**15, 10**6, [10**6] * BUCKETS)
    points = [Point(stream(f"/{'x' * 100}/{n}"), START_NS, full) for n in range(5000)]
    batches = list(metrics.Encoder("1").batches(points, NOW_NS))
    assert sum(batch.items for batch in batches) == 5000
    assert max(len(batch.encoded()) for batch in batches) < 4 << 20
