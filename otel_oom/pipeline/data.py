"""What travels between components: OTLP messages, and nothing else.

A batch is one message of `opentelemetry-proto` that holds `Resource*` lists. Its wire form
is also the body of an OTLP export request (`ExportLogsServiceRequest` and `LogsData` have the
same fields; opentelemetry-proto, collector/*/v1), so an exporter encodes it once and sends it.
"""

from __future__ import annotations

import dataclasses
import enum

from opentelemetry.proto.logs.v1.logs_pb2 import LogsData, ResourceLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, MetricsData, ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, TracesData

Data = LogsData | TracesData | MetricsData


class Signal(enum.StrEnum):
    """The three signals, spelled as pipelines spell them."""

    LOGS = "logs"
    TRACES = "traces"
    METRICS = "metrics"


MESSAGES: dict[Signal, type[LogsData | TracesData | MetricsData]] = {
    Signal.LOGS: LogsData,
    Signal.TRACES: TracesData,
    Signal.METRICS: MetricsData,
}

ITEM_NAMES: dict[Signal, str] = {
    Signal.LOGS: "log_records",
    Signal.TRACES: "spans",
    Signal.METRICS: "metric_points",
}
"""How the collector names a signal's items in its own metrics."""


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Some items of one signal. Whoever holds it owns it; `items` is what is accounted for.

    A component that changes `data` must say so in its factory (`mutates`), because several
    pipelines may be handed the same message.
    """

    signal: Signal
    data: Data
    items: int

    @classmethod
    def of(cls, data: Data) -> Batch:
        """Wrap a message, counting its items."""
        return cls(signal_of(data), data, count_items(data))

    def copy(self) -> Batch:
        """An independent batch with the same content."""
        data = MESSAGES[self.signal]()
        data.MergeFrom(self.data)  # type: ignore[arg-type]  # the table keeps them the same type
        return Batch(self.signal, data, self.items)


def signal_of(data: Data) -> Signal:
    """The signal of a message."""
    if isinstance(data, LogsData):
        return Signal.LOGS
    return Signal.TRACES if isinstance(data, TracesData) else Signal.METRICS


def count_items(data: Data) -> int:
    """Log records, spans or metric data points in a message."""
    if isinstance(data, LogsData):
        return sum(len(s.log_records) for r in data.resource_logs for s in r.scope_logs)
    if isinstance(data, TracesData):
        return sum(len(s.spans) for r in data.resource_spans for s in r.scope_spans)
    return sum(
        count_points(metric)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def count_points(metric: Metric) -> int:
    """Data points of one metric, whatever its kind."""
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).data_points) if kind else 0


def logs(*resource_logs: ResourceLogs) -> Batch:
    """A batch of log records."""
    return Batch.of(LogsData(resource_logs=resource_logs))


def traces(*resource_spans: ResourceSpans) -> Batch:
    """A batch of spans."""
    return Batch.of(TracesData(resource_spans=resource_spans))


def metrics(*resource_metrics: ResourceMetrics) -> Batch:
    """A batch of metric data points."""
    return Batch.of(MetricsData(resource_metrics=resource_metrics))
