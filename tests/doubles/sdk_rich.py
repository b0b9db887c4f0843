"""OTLP with everything in it that the SDK's classes can hold, and how to compare what comes back."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
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

from otel_oom.pipeline import otlp
from otel_oom.pipeline.data import Signal

T0 = 1_700_000_000_123_456_789
TRACE, SPAN, OTHER = bytes(range(1, 17)), bytes(range(1, 9)), b"\xff" * 8
SCHEMA = "https://example.org/schema"
KNOWN, REMOTE = 0x100, 0x200
VALUES = {
    "text": "ä",
    "yes": True,
    "int": -(2**63),
    "ratio": 0.1,
    "raw": b"\0\xff",
    "list": ["a", 1, None, {"x": [True]}],
    "map": {"a": {"b": 2}},
    "none": None,
}
ATTRIBUTES = otlp.key_values(VALUES)
RESOURCE = Resource(attributes=otlp.key_values({"service.name": "r", "n": [1, 2]}))
SCOPE = InstrumentationScope(name="s", version="1", attributes=otlp.key_values({"k": "v"}))
EXEMPLAR = {"time_unix_nano": T0, "filtered_attributes": otlp.key_values({"pid": 1})}

LOGS = LogsData(
    resource_logs=[
        ResourceLogs(
            resource=RESOURCE,
            schema_url=SCHEMA,
            scope_logs=[
                ScopeLogs(
                    scope=SCOPE,
                    schema_url=SCHEMA,
                    log_records=[
                        LogRecord(
                            time_unix_nano=T0,
                            observed_time_unix_nano=T0 + 1,
                            severity_number=17,
                            severity_text="ERROR",
                            body=otlp.any_value({"text": "killed", "pids": [1, 2]}),
                            attributes=ATTRIBUTES,
                            dropped_attributes_count=3,
                            flags=1,
                            trace_id=TRACE,
                            span_id=SPAN,
                            event_name="oom.kill",
                        ),
                        LogRecord(body=otlp.any_value("bare")),
                    ],
                )
            ],
        )
    ]
)
TRACES = TracesData(
    resource_spans=[
        ResourceSpans(
            resource=RESOURCE,
            schema_url=SCHEMA,
            scope_spans=[
                ScopeSpans(
                    scope=SCOPE,
                    schema_url=SCHEMA,
                    spans=[
                        Span(
                            trace_id=TRACE,
                            span_id=SPAN,
                            parent_span_id=OTHER,
                            trace_state="a=1,b=2",
                            flags=KNOWN | REMOTE,
                            name="storage.fsync",
                            kind=kind,
                            start_time_unix_nano=T0,
                            end_time_unix_nano=T0 + 7,
                            attributes=ATTRIBUTES,
                            dropped_attributes_count=1,
                            events=[
                                Span.Event(
                                    name="marked",
                                    time_unix_nano=T0 + 3,
                                    attributes=ATTRIBUTES,
                                    dropped_attributes_count=2,
                                )
                            ],
                            dropped_events_count=4,
                            links=[
                                Span.Link(
                                    trace_id=TRACE,
                                    span_id=OTHER,
                                    attributes=ATTRIBUTES,
                                    dropped_attributes_count=5,
                                    flags=KNOWN | REMOTE,
                                )
                            ],
                            dropped_links_count=6,
                            status=Status(code=2, message="did not die"),
                        )
                        for kind in range(1, 6)
                    ],
                )
            ],
        )
    ]
)
_TIMES = {"start_time_unix_nano": T0, "time_unix_nano": T0 + 9, "attributes": ATTRIBUTES}
METRICS = pb.MetricsData(
    resource_metrics=[
        pb.ResourceMetrics(
            resource=RESOURCE,
            schema_url=SCHEMA,
            scope_metrics=[
                pb.ScopeMetrics(
                    scope=SCOPE,
                    schema_url=SCHEMA,
                    metrics=[
                        pb.Metric(
                            name="oom.kills",
                            description="kills",
                            unit="{kill}",
                            sum=pb.Sum(
                                aggregation_temporality=2,
                                is_monotonic=True,
                                data_points=[
                                    pb.NumberDataPoint(
                                        **_TIMES,
                                        as_int=3,
                                        exemplars=[
                                            pb.Exemplar(
                                                **EXEMPLAR, as_int=1, trace_id=TRACE, span_id=SPAN
                                            ),
                                            pb.Exemplar(**EXEMPLAR, as_double=0.5),
                                        ],
                                    ),
                                    pb.NumberDataPoint(**_TIMES, as_double=0.25),
                                ],
                            ),
                        ),
                        pb.Metric(
                            name="gauge",
                            gauge=pb.Gauge(
                                data_points=[pb.NumberDataPoint(time_unix_nano=T0, as_int=0)]
                            ),
                        ),
                        pb.Metric(
                            name="histogram",
                            unit="s",
                            histogram=pb.Histogram(
                                aggregation_temporality=1,
                                data_points=[
                                    pb.HistogramDataPoint(
                                        **_TIMES,
                                        count=3,
                                        sum=1.5,
                                        min=0.1,
                                        max=1.0,
                                        bucket_counts=[1, 2],
                                        explicit_bounds=[0.5],
                                    ),
                                    pb.HistogramDataPoint(**_TIMES, count=0),
                                ],
                            ),
                        ),
                        pb.Metric(
                            name="exponential",
                            unit="s",
                            exponential_histogram=pb.ExponentialHistogram(
                                aggregation_temporality=2,
                                data_points=[
                                    pb.ExponentialHistogramDataPoint(
                                        **_TIMES,
                                        count=7,
                                        sum=3.5,
                                        scale=-3,
                                        zero_count=1,
                                        positive={"offset": -2, "bucket_counts": [1, 0, 2]},
                                        negative={"offset": 4, "bucket_counts": [3]},
                                        flags=1,
                                        min=-9,
                                        max=4,
                                        exemplars=[pb.Exemplar(**EXEMPLAR, as_double=0.5)],
                                    )
                                ],
                            ),
                        ),
                    ],
                )
            ],
        )
    ]
)
ALL = {Signal.LOGS: LOGS, Signal.TRACES: TRACES, Signal.METRICS: METRICS}


def same(message: Any, kind: type[Any]) -> Any:
    """A request as the message of `kind`: their fields are the same."""
    return kind.FromString(message.SerializeToString())
