"""What all three signals have in common when OTLP becomes the SDK's objects.

`Losses` keeps what the SDK's classes have no place for: it is told, never passed over.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope as OtlpScope
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as OtlpResource
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from otel_oom.pipeline import otlp

TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
W3C_FLAGS = 0xFF
"""The part of OTLP's flags that is W3C's; above it is whether the parent is remote."""


class Losses:
    """What a conversion had to leave out: whole items, and details of items that stay."""

    def __init__(self) -> None:
        self.items = 0
        self._words: collections.Counter[str] = collections.Counter()

    def item(self, what: str) -> None:
        """Count an item that the SDK cannot hold."""
        self.items += 1
        self._words[what] += 1

    def detail(self, what: str) -> None:
        """Count a part of an item that the SDK cannot hold."""
        self._words[what] += 1

    def message(self) -> str:
        """All of it in a line; empty if nothing was left out."""
        if not self._words:
            return ""
        words = ", ".join(f"{what} ({times})" for what, times in sorted(self._words.items()))
        return f"the OpenTelemetry SDK has no place for: {words}"


def attributes(pairs: Iterable[KeyValue], dropped: int, losses: Losses) -> BoundedAttributes:
    """Attributes as the SDK has them, with how many were dropped before they came here.

    It drops one without a name, and counts that itself.
    """
    values = otlp.attributes(pairs)
    if any(_has_empty_key(value) for value in values.values()):
        losses.detail("a map's value without a key")
    made = BoundedAttributes(attributes=values, immutable=True)
    made.dropped += dropped
    return made


def resource(message: OtlpResource, schema_url: str, losses: Losses) -> Resource:
    """A resource, with its schema's address."""
    if message.entity_refs:
        losses.detail("a resource's entities")
    made = Resource(otlp.attributes(message.attributes), schema_url)
    _note_dropped(made.attributes, message.dropped_attributes_count)
    return made


def scope(message: OtlpScope, schema_url: str) -> InstrumentationScope:
    """An instrumentation scope, with its schema's address."""
    values = otlp.attributes(message.attributes)
    made = InstrumentationScope(message.name, message.version, schema_url, values)
    _note_dropped(made.attributes, message.dropped_attributes_count)
    return made


def context(
    trace_id: bytes, span_id: bytes, flags: int, state: str, losses: Losses, *, remote: bool = False
) -> SpanContext:
    """The context of a span; an id of a wrong length, which no sender may make, is none."""
    return SpanContext(
        _number(trace_id, TRACE_ID_BYTES, losses),
        _number(span_id, SPAN_ID_BYTES, losses),
        is_remote=remote,
        trace_flags=TraceFlags(flags & W3C_FLAGS),
        trace_state=_state(state, losses),
    )


def _number(id_: bytes, length: int, losses: Losses) -> int:
    if id_ and len(id_) != length:
        losses.detail("an id of a wrong length")
        return 0
    return int.from_bytes(id_, "big")


def _state(text: str, losses: Losses) -> TraceState:
    if not text:
        return TraceState()
    state = TraceState.from_header([text])
    if state.to_header().replace(" ", "") != text.replace(" ", ""):
        losses.detail("a trace state that is not W3C's")
    return state


def _note_dropped(made: object, dropped: int) -> None:
    if dropped and isinstance(made, BoundedAttributes):
        made.dropped += dropped


def _has_empty_key(value: otlp.Value) -> bool:
    if isinstance(value, dict):
        return "" in value or any(_has_empty_key(below) for below in value.values())
    return isinstance(value, list) and any(_has_empty_key(below) for below in value)
