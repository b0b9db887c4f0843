"""Joining and cutting batches: no item is lost, added or moved."""

from doubles import sink
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)

from otel_oom.pipeline import data, otlp
from otel_oom.processors.batch import regroup

_LOGS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 7)), min_size=1
)


def _batches(shape):
    """One batch per (resource, scope, count), its bodies numbered through."""
    number = iter(range(10_000))
    return [
        sink.log_batch(
            *(str(next(number)) for _ in range(count)), resource={"r": resource}, scope=scope
        )
        for resource, scope, count in shape
    ]


def _items(batch):
    return [
        (otlp.attributes(resource.resource.attributes)["r"], scope.scope.name, record.body)
        for resource in batch.data.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


@given(shape=_LOGS, size=st.integers(1, 9))
def test_merging_and_splitting_keep_every_item_its_source_and_its_place(shape, size):
    batches = _batches(shape)
    before = [item for batch in batches for item in _items(batch)]

    merged = regroup.merge(batches)
    pieces = list(regroup.split(merged, size)) if merged.items else []

    assert _items(merged) == before
    assert [item for piece in pieces for item in _items(piece)] == before
    assert merged.items == data.count_items(merged.data) == len(before)
    assert all(piece.items == data.count_items(piece.data) for piece in pieces)
    assert all(piece.items == size for piece in pieces[:-1])


@given(shape=_LOGS)
def test_the_inputs_of_a_merge_stay_as_they_are(shape):
    batches, same = _batches(shape), _batches(shape)

    regroup.merge(batches)

    assert [batch.data for batch in batches] == [batch.data for batch in same]


def test_adjacent_items_of_one_source_share_their_resource_and_scope():
    merged = regroup.merge(_batches([("a", "x", 1), ("a", "x", 2), ("a", "y", 1), ("b", "y", 1)]))

    shape = [
        [len(scope.log_records) for scope in one.scope_logs] for one in merged.data.resource_logs
    ]
    assert shape == [[3, 1], [1]]


def test_resources_with_another_schema_url_are_not_joined():
    first, second = _batches([("a", "x", 1), ("a", "x", 1)])
    second.data.resource_logs[0].schema_url = "https://example.org/2"

    assert len(regroup.merge([first, second]).data.resource_logs) == 2


@given(points=st.lists(st.integers(0, 6), min_size=1, max_size=6), size=st.integers(1, 5))
def test_a_metric_is_cut_between_its_points_and_keeps_its_name_and_kind(points, size):
    number = iter(range(1000))
    metrics = [Metric(name=f"m{index}", unit="s") for index in range(len(points))]
    for metric, count in zip(metrics, points, strict=True):
        metric.sum.is_monotonic = True
        metric.sum.data_points.extend(NumberDataPoint(as_int=next(number)) for _ in range(count))
    scope = ScopeMetrics(metrics=metrics)
    batch = data.Batch.of(MetricsData(resource_metrics=[ResourceMetrics(scope_metrics=[scope])]))

    pieces = list(regroup.split(batch, size))

    cut = [
        metric
        for piece in pieces
        for resource in piece.data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    assert [p.as_int for m in cut for p in m.sum.data_points] == list(range(sum(points)))
    assert all(metric.unit == "s" and metric.sum.is_monotonic for metric in cut)
    assert sum(piece.items for piece in pieces) == sum(points)
    assert all(piece.items <= size for piece in pieces)
