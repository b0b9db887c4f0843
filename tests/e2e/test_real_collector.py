"""The peer itself works: what the official exporters send, the collector writes to its file.

If this fails, look at the collector and not at the agent.
"""

from __future__ import annotations

import pytest
from doubles import real_collector
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource

pytestmark = pytest.mark.go


def _exporter(protocol: str, peer: real_collector.Collector) -> GrpcExporter | HttpExporter:
    if protocol == "grpc":
        return GrpcExporter(endpoint=peer.grpc_endpoint, insecure=True)
    return HttpExporter(endpoint=peer.http_endpoint + "/v1/logs")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_the_official_exporter_sends_is_in_the_collectors_file(
    protocol: str, collector: real_collector.Collector
) -> None:
    record = LogRecord(
        timestamp=1_700_000_000_123_456_789,
        severity_number=SeverityNumber.ERROR,
        body=f"sent over {protocol}",
        event_name="smoke",
    )
    exporter = _exporter(protocol, collector)
    exporter.export([ReadableLogRecord(record, Resource({"service.name": "smoke"}))])
    exporter.shutdown()

    [written] = collector.log_records(1)

    assert written["body"] == {"stringValue": f"sent over {protocol}"}
    assert written["timeUnixNano"] == "1700000000123456789"
    assert written["eventName"] == "smoke"
