"""Everything that a batch holds, an attribute a line, by walking the message's own fields."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_oom.pipeline import otlp, text

_INDENT = "  "


def lines(message: Message, zone: dt.tzinfo | None = None) -> Iterator[str]:
    """Yield the lines of a message; times in `zone`, by default the local one."""
    for field, value in message.ListFields():
        if not field.is_repeated:
            yield from _field(field, field.name, value, zone)
        elif field.message_type is None:
            yield f"{field.name}: {[_scalar(field, one, zone) for one in value]}"
        elif field.message_type.full_name == KeyValue.DESCRIPTOR.full_name:
            yield f"{field.name}:"
            yield from (f"{_INDENT}{_pair(pair)}" for pair in value)
        else:
            for index, one in enumerate(value):
                yield from _field(field, f"{field.name} #{index}", one, zone)


def _field(field: FieldDescriptor, label: str, value: Any, zone: dt.tzinfo | None) -> Iterator[str]:
    if isinstance(value, AnyValue):
        yield f"{label}: {_plain(otlp.python_value(value))}"
    elif isinstance(value, Message):
        yield f"{label}:"
        yield from (_INDENT + line for line in lines(value, zone))
    else:
        yield f"{label}: {_scalar(field, value, zone)}"


def _scalar(field: FieldDescriptor, value: Any, zone: dt.tzinfo | None) -> str:
    if field.enum_type is not None:
        name = field.enum_type.values_by_number.get(value)
        return name.name if name else str(value)
    if field.name.endswith("_unix_nano"):
        return text.time(value, zone)
    return value.hex() if isinstance(value, bytes) else _plain(value)


def _pair(pair: KeyValue) -> str:
    return f"{text.safe(pair.key)}: {_plain(otlp.python_value(pair.value))}"


def _plain(value: otlp.Value) -> str:
    return text.safe(value) if isinstance(value, str) else repr(value)
