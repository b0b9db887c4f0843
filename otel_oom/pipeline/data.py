"""What travels between components: OTLP messages, and nothing else.

A batch is one message of `opentelemetry-proto` that holds `Resource*` lists. Its wire form
is also the body of an OTLP export request (`ExportLogsServiceRequest` and `LogsData` have the
same fields; opentelemetry-proto, collector/*/v1), so an exporter encodes it once and sends it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from opentelemetry.proto.logs.v1.logs_pb2 import LogsData, ResourceLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, MetricsData, ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, TracesData

from otel_oom.pipeline import weights

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


class Batch:
    """Some items of one signal. Whoever holds it owns it; `items` is what is accounted for.

    `weight` says how urgent it is, from 1 to 10 (`pipeline/weights.py`).

    A component that changes `data` must say so in its factory (`mutates`), because several
    pipelines may be handed the same message. `content` may be the message's wire form, which is
    parsed when `data` is first asked for, and sent as it is if it never is: of what the kills
    of a storm cost, to parse and write them was a seventh.
    """

    __slots__ = ("_bodies", "_content", "_items", "_signal", "_weight")

    def __init__(
        self, signal: Signal, content: Data | bytes, items: int, weight: int = weights.DEFAULT
    ) -> None:
        self._signal = signal
        self._content = content
        self._items = items
        self._weight = weight
        self._bodies: dict[Callable[[Data], bytes], bytes] = {}

    @classmethod
    def of(cls, data: Data, weight: int = weights.DEFAULT) -> Batch:
        """Wrap a message, counting its items."""
        return cls(signal_of(data), data, count_items(data), weight)

    @property
    def signal(self) -> Signal:
        """Of what signal all of it is."""
        return self._signal

    @property
    def items(self) -> int:
        """Log records, spans or metric data points."""
        return self._items

    @property
    def weight(self) -> int:
        """How urgent it is: 1 to 10, the greater the sooner."""
        return self._weight

    def weighing(self, weight: int) -> Batch:
        """The same content with another weight."""
        if weight == self._weight:
            return self
        return Batch(self._signal, self._content, self._items, weight)

    @property
    def data(self) -> Data:
        """The message. Who has it may change it, so what it was encoded to is forgotten."""
        self._bodies.clear()
        self._content = self._message()
        return self._content

    def encoded(self) -> bytes:
        """The wire form of the message: as it came, if nobody has asked for the message."""
        content = self._content
        return content if isinstance(content, bytes) else self.encoded_by(_wire_form)

    def encoded_by(self, encode: Callable[[Data], bytes]) -> bytes:
        """The message in an encoding: the same bytes for all who ask, made once."""
        if encode not in self._bodies:
            self._bodies[encode] = encode(self._message())
        return self._bodies[encode]

    def _message(self) -> Data:
        content = self._content
        return MESSAGES[self._signal].FromString(content) if isinstance(content, bytes) else content

    def copy(self) -> Batch:
        """An independent batch with the same content."""
        if isinstance(self._content, bytes):
            return Batch(self._signal, self._content, self._items, self._weight)
        data = MESSAGES[self._signal]()
        data.MergeFrom(self._content)  # type: ignore[arg-type]  # the table keeps the type
        return Batch(self._signal, data, self._items, self._weight)

    def __eq__(self, other: object) -> bool:
        """Whether the content of both is the same, whatever its form, and however urgent."""
        if not isinstance(other, Batch):
            return NotImplemented
        mine = (self.signal, self.items, self.data)
        return mine == (other.signal, other.items, other.data)

    __hash__ = None  # type: ignore[assignment]  # a message may change

    def __repr__(self) -> str:
        """The message and its items."""
        return f"Batch({self._signal!r}, {self.data!r}, {self._items})"


def _wire_form(data: Data) -> bytes:
    return data.SerializeToString()


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
