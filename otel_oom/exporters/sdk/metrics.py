"""OTLP's metrics as the SDK's.

Equal resources and equal scopes become one: the official encoder keeps only the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_oom.exporters.sdk import values
from otel_oom.exporters.sdk.values import Losses
from otel_oom.pipeline import data as datas

_NO_VALUE = pb.DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


def converted(data: pb.MetricsData, losses: Losses) -> sdk.MetricsData:
    """Every metric, by its resource and scope."""
    found: dict[Resource, dict[InstrumentationScope, list[sdk.Metric]]] = {}
    for of in data.resource_metrics:
        scopes = found.setdefault(values.resource(of.resource, of.schema_url, losses), {})
        for scoped in of.scope_metrics:
            metrics = scopes.setdefault(values.scope(scoped.scope, scoped.schema_url), [])
            metrics += [made for one in scoped.metrics if (made := _metric(one, losses))]
    return sdk.MetricsData(
        [
            sdk.ResourceMetrics(
                resource,
                [
                    sdk.ScopeMetrics(scope, metrics, scope.schema_url or "")
                    for scope, metrics in scopes.items()
                    if metrics
                ],
                resource.schema_url,
            )
            for resource, scopes in found.items()
            if any(scopes.values())
        ]
    )


def _metric(metric: pb.Metric, losses: Losses) -> sdk.Metric | None:
    """None of a metric that has no point that the SDK could hold."""
    if metric.metadata:
        losses.detail("a metric's metadata")
    kind = metric.WhichOneof("data") or ""
    if kind not in _KINDS:
        for _ in range(datas.count_points(metric)):
            losses.item(f"a point of a {kind}")
        return None
    made = _KINDS[kind](getattr(metric, kind), losses)
    if not made.data_points:
        return None
    return sdk.Metric(metric.name, metric.description, metric.unit, made)


def _gauge(gauge: pb.Gauge, losses: Losses) -> sdk.Gauge:
    return sdk.Gauge(_numbers(gauge.data_points, losses))


def _sum(total: pb.Sum, losses: Losses) -> sdk.Sum:
    points = _numbers(total.data_points, losses)
    temporality = AggregationTemporality(total.aggregation_temporality)
    return sdk.Sum(points, temporality, total.is_monotonic)


def _histogram(histogram: pb.Histogram, losses: Losses) -> sdk.Histogram:
    points = [
        sdk.HistogramDataPoint(
            **_common(point, losses),
            **_summed(point),
            bucket_counts=list(point.bucket_counts),
            explicit_bounds=list(point.explicit_bounds),
        )
        for point in histogram.data_points
        if _has_value(point, losses)
    ]
    return sdk.Histogram(points, AggregationTemporality(histogram.aggregation_temporality))


def _exponential(histogram: pb.ExponentialHistogram, losses: Losses) -> sdk.ExponentialHistogram:
    points = [_exponential_point(point, losses) for point in histogram.data_points]
    temporality = AggregationTemporality(histogram.aggregation_temporality)
    return sdk.ExponentialHistogram(points, temporality)


def _exponential_point(
    point: pb.ExponentialHistogramDataPoint, losses: Losses
) -> sdk.ExponentialHistogramDataPoint:
    if point.zero_threshold:
        losses.detail("an exponential histogram's zero threshold")
    return sdk.ExponentialHistogramDataPoint(
        **_common(point, losses),
        **_summed(point),
        scale=point.scale,
        zero_count=point.zero_count,
        positive=_buckets(point.positive),
        negative=_buckets(point.negative),
        flags=point.flags,
    )


def _numbers(points: Iterable[pb.NumberDataPoint], losses: Losses) -> list[sdk.NumberDataPoint]:
    return [
        sdk.NumberDataPoint(
            **_common(point, losses), value=getattr(point, point.WhichOneof("value") or "as_int")
        )
        for point in points
        if _has_value(point, losses)
    ]


def _has_value(point: Any, losses: Losses) -> bool:
    """A point without one would come out as 0, which it is not."""
    is_number = isinstance(point, pb.NumberDataPoint)
    if point.flags & _NO_VALUE or (is_number and point.WhichOneof("value") is None):
        losses.item("a point without a value")
        return False
    return True


def _common(point: Any, losses: Losses) -> dict[str, Any]:
    return {
        "attributes": values.attributes(point.attributes, 0, losses),
        "start_time_unix_nano": point.start_time_unix_nano,
        "time_unix_nano": point.time_unix_nano,
        "exemplars": _exemplars(point.exemplars, losses),
    }


def _summed(point: Any) -> dict[str, Any]:
    """What a histogram tells of all its values; what it does not tell is None."""
    told = {key: getattr(point, key) for key in ("sum", "min", "max") if point.HasField(key)}
    return {"count": point.count, "sum": None, "min": None, "max": None, **told}


def _buckets(buckets: pb.ExponentialHistogramDataPoint.Buckets) -> sdk.Buckets:
    return sdk.Buckets(buckets.offset, list(buckets.bucket_counts))


def _exemplars(exemplars: Iterable[pb.Exemplar], losses: Losses) -> Sequence[Exemplar]:
    found = []
    for exemplar in exemplars:
        field = exemplar.WhichOneof("value")
        if field is None:
            losses.detail("an exemplar without a value")
            continue
        context = values.context(exemplar.trace_id, exemplar.span_id, 0, "", losses)
        filtered = values.attributes(exemplar.filtered_attributes, 0, losses)
        ids = (context.span_id or None, context.trace_id or None)
        value = getattr(exemplar, field)
        found.append(Exemplar(filtered, value, exemplar.time_unix_nano, *ids))
    return found


_KINDS: dict[str, Callable[[Any, Losses], sdk.DataT]] = {
    "gauge": _gauge,
    "sum": _sum,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
}
