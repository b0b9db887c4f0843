"""OTLP's log records as the SDK's."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as OtlpLogRecord
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.sdk._logs import ReadableLogRecord

from otel_oom.exporters.sdk import values
from otel_oom.exporters.sdk.values import Losses
from otel_oom.pipeline import otlp


def converted(data: LogsData, losses: Losses) -> list[ReadableLogRecord]:
    """Every record, in its order, with its resource and scope."""
    found = []
    for of in data.resource_logs:
        resource = values.resource(of.resource, of.schema_url, losses)
        for scoped in of.scope_logs:
            scope = values.scope(scoped.scope, scoped.schema_url)
            found += [
                ReadableLogRecord(_record(record, losses), resource, scope)
                for record in scoped.log_records
            ]
    return found


def _record(record: OtlpLogRecord, losses: Losses) -> LogRecord:
    return LogRecord(
        timestamp=record.time_unix_nano or None,
        observed_timestamp=record.observed_time_unix_nano,
        context=_context(record, losses),
        severity_text=record.severity_text or None,
        severity_number=_severity(record.severity_number, losses),
        body=otlp.python_value(record.body),
        attributes=values.attributes(record.attributes, record.dropped_attributes_count, losses),
        event_name=record.event_name or None,
    )


def _context(record: OtlpLogRecord, losses: Losses) -> Context:
    """Where the SDK's record takes its ids and flags from."""
    found = values.context(record.trace_id, record.span_id, record.flags, "", losses)
    return trace.set_span_in_context(trace.NonRecordingSpan(found), Context())


def _severity(number: int, losses: Losses) -> SeverityNumber | None:
    try:
        return SeverityNumber(number) if number else None
    except ValueError:
        losses.detail("a severity that OTLP does not name")
        return None
