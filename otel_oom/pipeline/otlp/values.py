"""Python values as OTLP attribute values, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    KeyValue,
    KeyValueList,
)

Value = str | bool | int | float | bytes | Sequence["Value"] | Mapping[str, "Value"] | None
"""What an attribute can hold (opentelemetry-proto, common/v1/common.proto, AnyValue)."""

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1


def any_value(value: Value) -> AnyValue:
    """Encode a Python value; an int beyond 64 bits, which OTLP cannot hold, is a string."""
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        fits = INT64_MIN <= value <= INT64_MAX
        return AnyValue(int_value=value) if fits else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, Mapping):
        return AnyValue(kvlist_value=KeyValueList(values=key_values(value)))
    if value is None:
        return AnyValue()
    return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))


def key_value(key: str, value: Value) -> KeyValue:
    """One attribute."""
    return KeyValue(key=key, value=any_value(value))


def key_values(attributes: Mapping[str, Value]) -> list[KeyValue]:
    """Many attributes, in the mapping's order."""
    return [key_value(key, value) for key, value in attributes.items()]


def python_value(value: AnyValue) -> Value:
    """Decode an attribute's value."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [python_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    plain: Value = getattr(value, kind)
    return plain


def attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    """Decode attributes; of a repeated key the last one counts."""
    return {pair.key: python_value(pair.value) for pair in pairs}
