"""Batches as lines for a person: one a log record, span or data point.

A log record of an OOM kill is followed by its process tree. The order of a line is fixed:
local time, severity, body, then the numbers that matter.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    Metric,
    MetricsData,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from otel_oom import semconv
from otel_oom.exporters.debug import exponential, process_tree
from otel_oom.pipeline import otlp, text
from otel_oom.pipeline.data import Data

_SIZES = {
    semconv.VICTIM_SWAP: "swap",
    semconv.VICTIM_PAGE_TABLES: "page tables",
    semconv.LIMIT_USAGE: "charged to the limit",
}
"""What the body of a kill leaves out, and the word for it on the line."""

_WORKLOAD = (semconv.PROCESS_LINUX_CGROUP, semconv.STORAGE_CGROUP_ID)

Attributes = Mapping[str, otlp.Value]
Zone = dt.tzinfo | None


def lines(data: Data, zone: Zone = None) -> Iterator[str]:
    """Yield the readable lines of a batch; times in `zone`, by default the local one."""
    if isinstance(data, LogsData):
        for log in data.resource_logs:
            for log_scope in log.scope_logs:
                for record in log_scope.log_records:
                    yield from log_lines(record, zone)
    elif isinstance(data, TracesData):
        for trace in data.resource_spans:
            for span_scope in trace.scope_spans:
                yield from (span_line(span, zone) for span in span_scope.spans)
    else:
        yield from _metrics(data, zone)


def log_lines(record: LogRecord, zone: Zone) -> Iterator[str]:
    """One line, and below it the process tree if the record has one."""
    attributes = otlp.attributes(record.attributes)
    words = [
        text.time(record.time_unix_nano or record.observed_time_unix_nano, zone),
        _severity(record).ljust(5),
        _value(otlp.python_value(record.body)) or text.safe(record.event_name),
    ]
    if numbers := ", ".join(_numbers(attributes)):
        words.append(f"[{numbers}]")
    yield " ".join(words)
    yield from (f"  {line}" for line in process_tree.lines(_processes(attributes)))


def span_line(span: Span, zone: Zone) -> str:
    """Time, name, duration, status and the ids of one span."""
    duration_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
    status = Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_")
    return (
        f"{text.time(span.start_time_unix_nano, zone)} SPAN  {text.safe(span.name)} "
        f"{duration_ms:.3f} ms {_delay(span)}{status} "
        f"trace {span.trace_id.hex()} span {span.span_id.hex()}"
    )


def _delay(span: Span) -> str:
    """Of a slow storage operation: on which device, and which layer delayed it."""
    attributes = otlp.attributes(span.attributes)
    device, layer = attributes.get(semconv.SYSTEM_DEVICE), attributes.get(semconv.DELAY_LAYER)
    share = attributes.get(semconv.DELAY_SHARE)
    where = f"on {_value(device)} " if device else ""
    if not layer or not isinstance(share, float):
        return where
    return f"{where}({share:.0%} {_value(layer)}) "


def _metrics(data: MetricsData, zone: Zone) -> Iterator[str]:
    for resource in data.resource_metrics:
        workload = _workload(otlp.attributes(resource.resource.attributes))
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield from _points(metric, workload, zone)


def _workload(resource: Attributes) -> Attributes:
    """What of a resource tells its points from those of the next."""
    return {key: resource[key] for key in _WORKLOAD if key in resource}


def _points(metric: Metric, workload: Attributes, zone: Zone) -> Iterator[str]:
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points if kind else ():
        pairs = {**workload, **otlp.attributes(point.attributes)}.items()
        where = ", ".join(f"{text.safe(key)}={_value(value)}" for key, value in pairs)
        yield (
            f"{text.time(point.time_unix_nano, zone)} METRIC {text.safe(metric.name)}"
            f"{{{where}}} {_point_value(point, metric.unit)}"
        ).rstrip()


def _point_value(point: Any, unit: str) -> str:
    """The number of a gauge or sum, what is in a histogram, or count and sum of the others."""
    if isinstance(point, ExponentialHistogramDataPoint):
        return exponential.words(point, unit)
    names = point.DESCRIPTOR.fields_by_name
    if "as_int" in names:
        return f"{getattr(point, point.WhichOneof('value') or 'as_int'):g} {text.safe(unit)}"
    return f"count {point.count} sum {point.sum:g} {text.safe(unit)}"


def _severity(record: LogRecord) -> str:
    if record.severity_text:
        return text.safe(record.severity_text)
    number = record.severity_number
    known = number in SeverityNumber.values()
    return SeverityNumber.Name(number).removeprefix("SEVERITY_NUMBER_") if known else str(number)


def _numbers(attributes: Attributes) -> Iterator[str]:
    for key, word in _SIZES.items():
        value = attributes.get(key)
        if isinstance(value, int) and value:
            yield f"{word} {text.size(value)}"


def _processes(attributes: Attributes) -> list[process_tree.Process]:
    listed = attributes.get(semconv.PROCESSES)
    if not isinstance(listed, list):
        return []
    return [process for process in listed if isinstance(process, Mapping)]


def _value(value: otlp.Value) -> str:
    if isinstance(value, str):
        return text.safe(value)
    return "" if value is None else repr(value)  # which escapes by itself
