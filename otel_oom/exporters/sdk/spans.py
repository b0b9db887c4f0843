"""OTLP's spans as the SDK's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, TracesData
from opentelemetry.proto.trace.v1.trace_pb2 import Status as OtlpStatus
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from otel_oom.exporters.sdk import values
from otel_oom.exporters.sdk.values import Losses

_KINDS: dict[int, SpanKind] = {
    Span.SPAN_KIND_UNSPECIFIED: SpanKind.INTERNAL,  # as OTLP allows a receiver to take it
    Span.SPAN_KIND_INTERNAL: SpanKind.INTERNAL,
    Span.SPAN_KIND_SERVER: SpanKind.SERVER,
    Span.SPAN_KIND_CLIENT: SpanKind.CLIENT,
    Span.SPAN_KIND_PRODUCER: SpanKind.PRODUCER,
    Span.SPAN_KIND_CONSUMER: SpanKind.CONSUMER,
}


def converted(data: TracesData, losses: Losses) -> list[ReadableSpan]:
    """Every span, in its order, with its resource and scope."""
    found = []
    for of in data.resource_spans:
        resource = values.resource(of.resource, of.schema_url, losses)
        for scoped in of.scope_spans:
            scope = values.scope(scoped.scope, scoped.schema_url)
            found += [_span(span, resource, scope, losses) for span in scoped.spans]
    return found


def _span(
    span: Span, resource: Resource, scope: InstrumentationScope, losses: Losses
) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        context=values.context(span.trace_id, span.span_id, span.flags, span.trace_state, losses),
        parent=_parent(span, losses),
        resource=resource,
        attributes=values.attributes(span.attributes, span.dropped_attributes_count, losses),
        events=_bounded(
            (_event(event, losses) for event in span.events), span.dropped_events_count
        ),
        links=_bounded((_link(link, losses) for link in span.links), span.dropped_links_count),
        kind=_kind(span.kind, losses),
        status=_status(span.status, losses),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=scope,
    )


def _parent(span: Span, losses: Losses) -> SpanContext | None:
    if not span.parent_span_id:
        return None
    remote = _is_remote(span.flags)
    return values.context(span.trace_id, span.parent_span_id, span.flags, "", losses, remote=remote)


def _event(event: Span.Event, losses: Losses) -> Event:
    attributes = values.attributes(event.attributes, event.dropped_attributes_count, losses)
    return Event(event.name, attributes, event.time_unix_nano)


def _link(link: Span.Link, losses: Losses) -> Link:
    remote = _is_remote(link.flags)
    context = values.context(
        link.trace_id, link.span_id, link.flags, link.trace_state, losses, remote=remote
    )
    return Link(context, values.attributes(link.attributes, link.dropped_attributes_count, losses))


def _is_remote(flags: int) -> bool:
    return bool(flags & SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)


def _kind(kind: int, losses: Losses) -> SpanKind:
    if kind not in _KINDS:
        losses.detail("a kind of span that OTLP does not name")
    return _KINDS.get(kind, SpanKind.INTERNAL)


def _status(status: OtlpStatus, losses: Losses) -> Status:
    """The SDK has a description only with an error."""
    try:
        code = StatusCode(status.code)
    except ValueError:
        losses.detail("a status that OTLP does not name")
        code = StatusCode.UNSET
    if status.message and code is not StatusCode.ERROR:
        losses.detail("the message of a status that is no error")
        return Status(code)
    return Status(code, status.message or None)


def _bounded(found: Iterable[Any], dropped: int) -> Sequence[Any]:
    """A list that knows how many were dropped before they came here."""
    made = BoundedList.from_seq(None, found)
    made.dropped = dropped
    return made
