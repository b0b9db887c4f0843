"""Splitting a batch: nothing lost, nothing changed but the grouping, nothing too large."""

from __future__ import annotations

import collections

from doubles import exporting
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from otel_oom.pipeline.data import Batch
from otel_oom.pipeline.otlp import json as otlp_json
from otel_oom.pipeline.sending import limits


def parts_of(batch, max_bytes, encode=limits.protobuf):
    return list(limits.encoded_parts(batch, encode, max_bytes))


def merged(*batches):
    data = type(batches[0].data)()
    for batch in batches:
        data.MergeFrom(batch.data)
    return Batch.of(data)


def test_the_limits_are_otlps():
    assert limits.MAX_REQUEST_BYTES == 64 * 1024 * 1024
    assert limits.MAX_RESPONSE_BYTES == 512 * 1024


def test_what_fits_goes_in_one_part_as_it_is():
    batch = exporting.logs("a", "b")

    assert parts_of(batch, 10_000) == [(batch, batch.data.SerializeToString())]


def test_resources_are_separated_before_records_are():
    batch = merged(exporting.logs("a", "b", resource="x"), exporting.logs("c", "d", resource="y"))
    (first, _), (second, _) = parts_of(batch, batch.data.ByteSize() - 1)

    assert first.data == exporting.logs("a", "b", resource="x").data
    assert second.data == exporting.logs("c", "d", resource="y").data


def test_each_half_keeps_resource_scope_and_schema():
    batch = exporting.logs("a", "b")
    for part, _ in parts_of(batch, batch.data.ByteSize() - 1):
        whole, cut = batch.data.resource_logs[0], part.data.resource_logs[0]
        assert (cut.resource, cut.schema_url) == (whole.resource, whole.schema_url)
        assert cut.scope_logs[0].scope == whole.scope_logs[0].scope


def test_the_points_of_one_metric_are_separated_and_keep_its_kind():
    batch = exporting.points(*range(1, 9))
    parts = parts_of(batch, batch.data.ByteSize() - 1)

    points = []
    for part, _ in parts:
        metric = part.data.resource_metrics[0].scope_metrics[0].metrics[0]
        assert (metric.name, metric.unit, metric.sum.is_monotonic) == ("oom.kills", "{kill}", True)
        assert metric.sum.aggregation_temporality == 2
        points += [point.as_int for point in metric.sum.data_points]
    assert len(parts) == 2
    assert points == list(range(1, 9))


@given(
    sizes=st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=5), min_size=1, max_size=4),
    max_bytes=st.integers(100, 900),
)
def test_every_record_is_in_one_part_that_fits_or_too_large_alone(sizes, max_bytes):
    batch = merged(
        *(exporting.logs(*("n" * size for size in group), resource=str(index))
          for index, group in enumerate(sizes))
    )  # fmt: skip
    parts = parts_of(batch, max_bytes)

    assert sum(part.items for part, _ in parts) == batch.items
    for part, body in parts:
        if body is None:
            assert part.items == 1
            assert part.data.ByteSize() > max_bytes
        else:
            assert len(body) <= max_bytes
            assert LogsData.FromString(body) == part.data
    assert names(batch) == sum((names(part) for part, _ in parts), collections.Counter())


def names(batch):
    return collections.Counter(
        record.event_name
        for resource in batch.data.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    )


def test_the_size_of_the_encoding_that_is_sent_counts():
    batch = exporting.logs("a", "b")
    json_bytes = len(otlp_json.encode(batch.data))

    assert len(parts_of(batch, json_bytes - 1)) == 1
    assert len(parts_of(batch, json_bytes - 1, otlp_json.encode)) == 2


def test_an_envelope_without_items_that_is_too_large_is_one_part_with_none():
    batch = Batch.of(MetricsData.FromString(exporting.points().data.SerializeToString()))

    assert [(part.items, body) for part, body in parts_of(batch, 1)] == [(0, None)]
