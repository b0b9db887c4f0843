"""How large a request may be, and what is done with a batch that is larger.

OTLP clients must not send a request above 64 MiB before compression and must count what they
discard for it; they must bound what they read of an answer, at 4 MiB unless they have a reason,
and take more for a refusal (opentelemetry-proto, docs/specification.md). Our reason for 512 KiB:
an answer holds a number and a text, and is several times in memory before it is read as such. Of
an answer that is an error 64 KiB are enough to say what is wrong (the collector reads as much).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from otel_oom.pipeline import data
from otel_oom.pipeline.data import Batch, Data

MAX_REQUEST_BYTES = 64 * 1024 * 1024
MAX_RESPONSE_BYTES = 512 * 1024
MAX_ERROR_BODY_BYTES = 64 * 1024

Encode = Callable[[Data], bytes]

_LISTS = {
    "LogsData": "resource_logs",
    "TracesData": "resource_spans",
    "MetricsData": "resource_metrics",
    "ResourceLogs": "scope_logs",
    "ResourceSpans": "scope_spans",
    "ResourceMetrics": "scope_metrics",
    "ScopeLogs": "log_records",
    "ScopeSpans": "spans",
    "ScopeMetrics": "metrics",
    "Gauge": "data_points",
    "Sum": "data_points",
    "Histogram": "data_points",
    "ExponentialHistogram": "data_points",
    "Summary": "data_points",
}
"""The repeated field of each message on the way from a batch to its items."""


def protobuf(message: Data) -> bytes:
    """Encode a batch as the body of an OTLP export request."""
    return message.SerializeToString()


def encoded_parts(
    batch: Batch, encode: Encode, max_bytes: int = MAX_REQUEST_BYTES
) -> Iterator[tuple[Batch, bytes | None]]:
    """Encode a batch in as few parts as fit; a single item that does not fit comes as None.

    Halves are cut at the highest level that has more than one element (resources, then scopes,
    then items), so that what belongs together stays together.
    """
    body = batch.encoded() if encode is protobuf else batch.encoded_by(encode)
    if len(body) <= max_bytes:
        yield batch, body
        return
    halves = _halves(batch.data)
    if not halves:
        yield batch, None
        return
    for half in halves:
        yield from encoded_parts(data.Batch.of(half, batch.weight), encode, max_bytes)


def _halves(message: Any) -> list[Any]:
    """Cut a message in two, with all that is around its list copied; [] if it is one item."""
    name = message.DESCRIPTOR.name
    if name == "Metric":
        field = message.WhichOneof("data")
        return _wrap(message, field, _halves(getattr(message, field))) if field else []
    field = _LISTS.get(name)
    if field is None:
        return []
    children = getattr(message, field)
    if len(children) == 1:
        return _wrap(message, field, [[half] for half in _halves(children[0])])
    middle = len(children) // 2
    return _wrap(message, field, [children[:middle], children[middle:]] if middle else [])


def _wrap(message: Any, field: str, contents: list[Any]) -> list[Any]:
    """Make one copy of a message a content, with `field` holding only that content."""
    return [_with(message, field, content) for content in contents]


def _with(message: Any, field: str, content: Any) -> Any:
    kept = {other.name: value for other, value in message.ListFields() if other.name != field}
    return type(message)(**kept, **{field: content})
