"""OTLP as the SDK's objects: the official encoders make the same OTLP of them, or it is told."""

from __future__ import annotations

import subprocess
import sys

import pytest
from doubles import sdk_rich
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import (
    ResourceSpans,
    ScopeSpans,
    Span,
    Status,
    TracesData,
)

from otel_oom.exporters.sdk import logs, metrics, spans, values
from otel_oom.pipeline import otlp
from otel_oom.pipeline.data import MESSAGES, Signal

WAYS = {
    Signal.LOGS: (logs.converted, encode_logs),
    Signal.TRACES: (spans.converted, encode_spans),
    Signal.METRICS: (metrics.converted, encode_metrics),
}


def there_and_back(signal, message):
    """Our conversion, and the official encoder's way back."""
    convert, encode = WAYS[signal]
    losses = values.Losses()
    encoded = encode(convert(message, losses))
    return sdk_rich.same(encoded, MESSAGES[signal]), losses


@pytest.mark.parametrize("signal", Signal)
def test_everything_comes_back(signal):
    found, losses = there_and_back(signal, sdk_rich.ALL[signal])

    assert found == sdk_rich.ALL[signal]
    assert (losses.items, losses.message()) == (0, "")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=4) | TEXT
    | st.floats(allow_nan=False)
)  # fmt: skip
KEYS = TEXT.filter(bool)
ANY = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3)
)


@given(body=ANY, attributes=st.dictionaries(KEYS, ANY, max_size=4), time=st.integers(0, 2**64 - 1))
def test_any_value_comes_back(body, attributes, time):
    record = LogRecord(
        time_unix_nano=time,
        body=otlp.any_value(body),
        attributes=otlp.key_values(attributes),
    )
    message = LogsData(resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[record])])])

    found, losses = there_and_back(Signal.LOGS, message)

    assert found.resource_logs[0].scope_logs[0].log_records[0] == record
    assert losses.message() == ""


def test_what_the_encoders_leave_out_is_in_the_objects():
    """Trace flags of a span, a link's state, and the dropped counts of resource and scope."""
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, flags=0x101, trace_state="a=1")
    link = Span.Link(trace_id=b"t" * 16, span_id=b"l" * 8, trace_state="b=2", flags=1)
    span.links.append(link)
    of = ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])
    of.resource.dropped_attributes_count = 4
    of.scope_spans[0].scope.dropped_attributes_count = 5

    (made,) = spans.converted(TracesData(resource_spans=[of]), values.Losses())

    assert made.context.trace_flags == 1
    assert made.links[0].context.trace_state["b"] == "2"
    assert made.links[0].context.trace_flags == 1
    assert made.resource.attributes.dropped == 4
    assert made.instrumentation_scope.attributes.dropped == 5


def test_equal_resources_become_one_as_the_official_encoder_keeps_the_last_only():
    def of(value):
        point = pb.NumberDataPoint(as_int=value, time_unix_nano=1)
        metric = pb.Metric(name="m", gauge=pb.Gauge(data_points=[point]))
        return pb.ResourceMetrics(
            resource=Resource(attributes=[otlp.key_value("a", "b")]),
            scope_metrics=[pb.ScopeMetrics(metrics=[metric])],
        )

    found, _ = there_and_back(Signal.METRICS, pb.MetricsData(resource_metrics=[of(1), of(2)]))

    (resource,) = found.resource_metrics
    (scope,) = resource.scope_metrics
    assert [m.gauge.data_points[0].as_int for m in scope.metrics] == [1, 2]


def metric(**kinds):
    scope = pb.ScopeMetrics(metrics=[pb.Metric(name="m", **kinds)])
    return pb.MetricsData(resource_metrics=[pb.ResourceMetrics(scope_metrics=[scope])])


@pytest.mark.parametrize(
    ("message", "items", "words"),
    [
        (metric(summary=pb.Summary(data_points=[pb.SummaryDataPoint(count=1)] * 2)), 2, "summary (2)"),
        (metric(gauge=pb.Gauge(data_points=[pb.NumberDataPoint(flags=1)])), 1, "without a value (1)"),
        (metric(gauge=pb.Gauge(data_points=[pb.NumberDataPoint()])), 1, "without a value (1)"),
        (metric(histogram=pb.Histogram(data_points=[{"flags": 1}])), 1, "without a value (1)"),
        (
            metric(
                exponential_histogram=pb.ExponentialHistogram(data_points=[{"zero_threshold": 0.5}])
            ),
            0,
            "zero threshold (1)",
        ),
    ],
)  # fmt: skip
def test_points_that_the_sdk_cannot_hold_are_told(message, items, words):
    found, losses = there_and_back(Signal.METRICS, message)

    assert losses.items == items
    assert losses.message().endswith(words)
    assert bool(found.resource_metrics) == (items == 0)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (Span(status=Status(code=1, message="fine")), "the message of a status that is no error (1)"),
        (Span(trace_id=b"short"), "an id of a wrong length (1)"),
        (Span(trace_state="not W3C"), "a trace state that is not W3C's (1)"),
        (Span(kind=9), "a kind of span that OTLP does not name (1)"),
        (Span(attributes=[otlp.key_value("m", {"": 1})]), "a map's value without a key (1)"),
    ],
)  # fmt: skip
def test_details_of_spans_that_the_sdk_cannot_hold_are_told(span, words):
    message = TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])
    losses = values.Losses()

    assert len(spans.converted(message, losses)) == 1
    assert losses.items == 0
    assert losses.message().endswith(words)


def test_an_attribute_without_a_name_counts_as_dropped():
    record = LogRecord(attributes=[otlp.key_value("", 1)], dropped_attributes_count=1)
    message = LogsData(resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[record])])])

    found, _ = there_and_back(Signal.LOGS, message)

    assert found.resource_logs[0].scope_logs[0].log_records[0].dropped_attributes_count == 2


def test_the_sdk_is_imported_by_the_conversion_alone():
    """A config that names no such exporter must not pay for the SDK."""
    code = "import sys, otel_oom.exporters.sdk; sys.exit('opentelemetry.sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
