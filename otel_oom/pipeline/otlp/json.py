"""OTLP/JSON: protobuf's JSON mapping with OTLP's three changes.

Trace and span ids are hex instead of base64, enums are integers, and names are lowerCamelCase
only (opentelemetry-proto, docs/specification.md, "JSON Protobuf Encoding"). 64-bit integers are
strings and not-a-number and infinities are words, as protobuf's mapping says; values that are
the default and have no presence are left out.
"""

from __future__ import annotations

import base64
import functools
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

HEX_FIELDS = frozenset({"trace_id", "span_id", "parent_span_id"})

_64_BIT = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
    }
)

Convert = Callable[[Any], Any]


def encode(message: Message) -> bytes:
    """One line of JSON in UTF-8, without the line's end."""
    text = json.dumps(to_json(message), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def to_json(message: Message) -> dict[str, Any]:
    """A message as what `json` can write."""
    plan = _plan(message.DESCRIPTOR)
    converted = {}
    for field, value in message.ListFields():
        name, convert = plan[field.number]
        converted[name] = convert(value)
    return converted


@functools.cache
def _plan(descriptor: Descriptor) -> Mapping[int, tuple[str, Convert]]:
    """How each field of a type is named and converted, by its number."""
    return {field.number: (field.json_name, _convert(field)) for field in descriptor.fields}


def _convert(field: FieldDescriptor) -> Convert:
    one = _convert_one(field)
    if not field.is_repeated:
        return one
    return list if one is _as_it_is else lambda values: [one(value) for value in values]


def _convert_one(field: FieldDescriptor) -> Convert:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return to_json
    if field.type in _64_BIT:
        return str
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes.hex if field.name in HEX_FIELDS else _base64
    return _double if field.type == FieldDescriptor.TYPE_DOUBLE else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
