"""What the receiver `storage` told, out of the messages that arrived: the last point of a stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    Metric,
    MetricsData,
)

from otel_oom.pipeline import otlp

Points = dict[tuple[str, Any, Any, Any], ExponentialHistogramDataPoint]
"""By metric, cgroup (path, else id), device and operation."""


def histograms(messages: Iterable[MetricsData]) -> Points:
    """The last point of each stream; that none shrinks from message to message is asserted."""
    found: Points = {}
    for message in messages:
        for resource in message.resource_metrics:
            workload = otlp.attributes(resource.resource.attributes)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    _add(found, _cgroup(workload), metric)
    return found


def _cgroup(workload: dict[str, Any]) -> Any:
    """Its path; its id if nobody knows the path any more; None for what is nobody's."""
    return workload.get("process.linux.cgroup", workload.get("storage.cgroup.id"))


def _add(found: Points, cgroup: Any, metric: Metric) -> None:
    for point in metric.exponential_histogram.data_points:
        own = otlp.attributes(point.attributes)
        which = (metric.name, cgroup, own.get("system.device"), own["storage.operation"])
        before = found.get(which)
        if before is not None and before.start_time_unix_nano == point.start_time_unix_nano:
            assert point.count >= before.count, which
            assert point.time_unix_nano >= before.time_unix_nano, which
        found[which] = point


def quantile(point: ExponentialHistogramDataPoint, share: float) -> float:
    """The upper bound, in seconds, of the bucket that has it."""
    base = 2.0 ** (2.0**-point.scale)
    rank = share * point.count - point.zero_count
    for index, count in enumerate(point.positive.bucket_counts, point.positive.offset):
        rank -= count
        if rank <= 0:
            return float(base ** (index + 1))
    return float(point.zero_threshold)
