"""What an OTLP server's answer means: taken, taken in part, try again, or never.

The rules are OTLP's (opentelemetry-proto, docs/specification.md, "Failures" of OTLP/gRPC and of
OTLP/HTTP). Everything that the two tables of retryable codes do not name is permanent.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_oom import errors
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.request import Answer

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

RETRYABLE_GRPC_CODES = {1, 4, 10, 11, 14, 15}
"""CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS."""

RESOURCE_EXHAUSTED = 8
"""Retryable only when the server says so, by a RetryInfo."""

RETRYABLE_HTTP_STATUSES = {429, 502, 503, 504}
"""All others must not be retried."""

THROTTLING_HTTP_STATUSES = {429, 503}
"""Those for which OTLP/HTTP defines `Retry-After`."""

MAX_TEXT_CHARS = 500
"""As much of a server's text is shown; a line in a log is no place for its whole answer."""

_REJECTED: dict[Signal, tuple[Any, str, str]] = {
    Signal.LOGS: (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
    Signal.TRACES: (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    Signal.METRICS: (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
}


def parse_response(signal: Signal, body: bytes) -> Answer:
    """Read an `Export*ServiceResponse`; one that is none raises `errors.Permanent`.

    Permanent, because the server may well have taken the data: to send them again would
    duplicate them (the collector decides so since v0.156).
    """
    kind, field, _ = _REJECTED[signal]
    try:
        partial = kind.FromString(body).partial_success
    except DecodeError as failure:
        raise errors.Permanent(
            f"the server took the request with an answer that is no OTLP: {shown(body)}"
        ) from failure
    return Answer(getattr(partial, field), shown(partial.error_message))


def parse_json_response(signal: Signal, body: bytes) -> Answer:
    """Read the same in OTLP/JSON, where 64-bit integers are strings."""
    try:
        partial = json.loads(body).get("partialSuccess") or {}
        rejected = int(partial.get(_REJECTED[signal][2]) or 0)
        return Answer(rejected, shown(str(partial.get("errorMessage", ""))))
    except (ValueError, AttributeError, TypeError, RecursionError) as failure:
        raise errors.Permanent(
            f"the server took the request with an answer that is no OTLP/JSON: {shown(body)}"
        ) from failure


def grpc_failure(code: int, name: str, text: str, details: bytes | None) -> errors.ExportError:
    """Judge a gRPC status; `details` is the trailer `grpc-status-details-bin`."""
    delay_s = retry_delay_s(details)
    said = f"the server answered {name}: {shown(text)}"
    if code in RETRYABLE_GRPC_CODES or (code == RESOURCE_EXHAUSTED and delay_s is not None):
        return errors.Retryable(said, delay_s=delay_s)
    return errors.Permanent(said)


def retry_delay_s(details: bytes | None) -> float | None:
    """The delay in seconds of the RetryInfo in a `google.rpc.Status`, or None without one."""
    info = error_details_pb2.RetryInfo()
    try:
        for detail in status_pb2.Status.FromString(details or b"").details:
            if detail.Unpack(info):
                delay_s: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
                return max(0.0, delay_s)
    except DecodeError:
        return None
    return None


def http_failure(
    status: int, body: bytes, content_type: str, retry_after: str | None
) -> errors.ExportError:
    """Judge an HTTP status that is not 2xx."""
    said = f"the server answered {status}: {_status_message(body, content_type)}"
    if status not in RETRYABLE_HTTP_STATUSES:
        return errors.Permanent(said)
    throttled = status in THROTTLING_HTTP_STATUSES
    return errors.Retryable(said, delay_s=retry_after_s(retry_after) if throttled else None)


def retry_after_s(value: str | None) -> float | None:
    """Seconds from now that a `Retry-After` asks for (RFC 9110 §10.2.3), None if it is neither.

    A date that is past asks for no delay.
    """
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,10}", value.strip()):
        return float(value)
    try:
        from email import utils  # noqa: PLC0415  # half a MiB, and most servers send seconds

        until = utils.parsedate_to_datetime(value)
        return max(0.0, until.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def media_type(content_type: str) -> str:
    """A `Content-Type` without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def shown(text: bytes | str) -> str:
    """Text of a server as one printable line of bounded length."""
    if isinstance(text, bytes):
        text = text[: 4 * MAX_TEXT_CHARS].decode("utf-8", "replace")
    line = "".join(char if char.isprintable() else " " for char in text[: MAX_TEXT_CHARS + 1])
    line = " ".join(line.split())
    return line if len(line) <= MAX_TEXT_CHARS else f"{line[:MAX_TEXT_CHARS]}…"


def _status_message(body: bytes, content_type: str) -> str:
    """The message of the `google.rpc.Status` that an OTLP/HTTP error carries, else its text."""
    try:
        if media_type(content_type) == PROTOBUF:
            return shown(status_pb2.Status.FromString(body).message)
        if media_type(content_type) == JSON:
            return shown(str(json.loads(body)["message"]))
    except (DecodeError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return shown(body)
