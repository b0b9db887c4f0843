"""The official exporters as oracle: the same data arrive the same through theirs and ours."""

from __future__ import annotations

import asyncio

import pytest
from doubles import exporting, otlp_server
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc_logs
from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc_metrics
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_traces
from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_metrics
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_traces
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from otel_oom.exporters import otlp_grpc, otlp_http
from otel_oom.pipeline import data
from otel_oom.pipeline.data import Batch, Signal

T0 = 1_700_000_000_000_000_000
RESOURCE = Resource({"service.name": "demo", "host.id": "h"})
SCOPE = InstrumentationScope("otel_oom.test", "1", "https://example.org/schema")

LOGS = [
    ReadableLogRecord(
        LogRecord(
            timestamp=T0,
            observed_timestamp=T0 + 1,
            severity_number=SeverityNumber.ERROR,
            severity_text="ERROR",
            body=f"killed {pid}",
            event_name="oom.kill",
            attributes={"process.pid": pid, "oom.group": True, "args": ["a", "b"], "ratio": 0.5},
        ),
        RESOURCE,
        SCOPE,
    )
    for pid in (7, 8)
]
SPANS = [
    ReadableSpan(
        "oom.kill",
        context=SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)),
        resource=RESOURCE,
        attributes={"process.pid": 7},
        events=[Event("marked", {"n": 1}, T0)],
        start_time=T0,
        end_time=T0 + 5,
        instrumentation_scope=SCOPE,
    )
]
POINT = NumberDataPoint({"oom.constraint": "memcg"}, T0, T0 + 5, 3)
SUM = Sum([POINT], AggregationTemporality.CUMULATIVE, is_monotonic=True)
METRICS = MetricsData(
    [
        ResourceMetrics(
            RESOURCE,
            [ScopeMetrics(SCOPE, [Metric("oom.kills", "kills", "{kill}", SUM)], SCOPE.schema_url)],
            "",
        )
    ]
)

CASES = {
    Signal.LOGS: (encode_logs, LOGS, grpc_logs.OTLPLogExporter, http_logs.OTLPLogExporter),
    Signal.TRACES: (encode_spans, SPANS, grpc_traces.OTLPSpanExporter, http_traces.OTLPSpanExporter),
    Signal.METRICS: (
        encode_metrics, METRICS, grpc_metrics.OTLPMetricExporter, http_metrics.OTLPMetricExporter,
    ),
}  # fmt: skip


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("transport", ["grpc", "http", "http_json"])
async def test_the_same_data_arrive_the_same(signal, transport):
    is_grpc = transport == "grpc"
    server = otlp_server.GrpcServer() if is_grpc else otlp_server.HttpServer()
    async with otlp_server.serving(server):
        endpoint = f"http://{server.address}" if is_grpc else server.url
        await asyncio.to_thread(_send_officially, signal, is_grpc, endpoint)
        await _send_ours(signal, transport, endpoint)

    theirs, ours = (received.message for received in server.received)
    assert ours == theirs
    assert data.count_items(ours_as_data(signal, ours)) > 0


def ours_as_data(signal, request):
    return data.MESSAGES[signal].FromString(request.SerializeToString())


def _send_officially(signal, is_grpc, endpoint):
    _, batch, grpc_kind, http_kind = CASES[signal]
    exporter = (
        grpc_kind(endpoint=endpoint, insecure=True)
        if is_grpc
        else http_kind(endpoint=f"{endpoint}/v1/{signal}")
    )
    result = exporter.export(batch)
    exporter.shutdown()
    assert result.name == "SUCCESS"


async def _send_ours(signal, transport, endpoint):
    encode, batch, _, _ = CASES[signal]
    message = data.MESSAGES[signal].FromString(encode(batch).SerializeToString())
    agent = exporting.Agent()
    if transport == "grpc":
        exporter = otlp_grpc.create(agent.settings, otlp_grpc.Config(endpoint=endpoint))
    else:
        encoding = "json" if transport == "http_json" else "proto"
        config = otlp_http.Config(endpoint=endpoint, encoding=encoding)
        exporter = otlp_http.create(agent.settings, config)
    await exporter.start()
    await agent.consume(exporter, Batch.of(message))
    await exporter.shutdown()
    assert set(agent.sum(signal)) == {"delivered"}
