"""Attributes written straight in their wire form; `values` makes messages of the same.

All that stands before the content of an attribute depends on its key, its type and the
content's length alone, so it is made once for each of them and kept.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from otel_oom.pipeline.otlp import wire
from otel_oom.pipeline.otlp.values import INT64_MAX, INT64_MIN

_KEY, _VALUE, _ELEMENT = 1, 2, 1
_STRING, _BOOLEAN, _INT, _DOUBLE, _ARRAY, _MAP = range(1, 7)
"""Fields of `AnyValue` (opentelemetry-proto, common/v1/common.proto)."""

_WIRE_TYPES = {_BOOLEAN: wire.VARINT, _INT: wire.VARINT, _DOUBLE: wire.EIGHT_BYTES}
_MOST_KEPT = 512
_MOST_KEPT_BYTES = 1024
_pack_double = struct.Struct("<d").pack


class _Heads(dict[int, bytes]):
    """What stands before the content of an attribute, by the content's length.

    Without a key it is what stands before a value alone: an element of an array, a body.
    """

    def __init__(self, number: int, key: str, field: int) -> None:
        self._number = number
        self._key = wire.text(_KEY, key) if key else b""
        self._field = field

    def __missing__(self, size: int) -> bytes:
        wire_type = _WIRE_TYPES.get(self._field, wire.LENGTH)
        start = wire.tag(self._field, wire_type)
        if wire_type == wire.LENGTH:
            start += wire.varint(size)
        if self._key:
            value = wire.tag(_VALUE, wire.LENGTH) + wire.varint(len(start) + size)
            start = self._key + value + start
        made = wire.tag(self._number, wire.LENGTH) + wire.varint(len(start) + size) + start
        if size <= _MOST_KEPT_BYTES:
            self[size] = made
        return made


class Attribute(dict[Any, bytes]):
    """The attribute of one key, whole, by its value; this one is an array of encoded elements.

    `attribute[value]` keeps what it makes, for limits, names and zeros, which come again: ten
    times as fast. `attribute.of(value)` does not, for what is of one kill: a third faster then.
    """

    FIELD = _ARRAY

    def __init__(self, number: int, key: str) -> None:
        self._number, self._key = number, key
        self._heads = _Heads(number, key, self.FIELD)

    def __missing__(self, value: Any) -> bytes:
        made = self.of(value)
        if len(made) <= _MOST_KEPT_BYTES:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[value] = made
        return made

    def of(self, value: Any) -> bytes:
        """The attribute with this value."""
        made: bytes = self._heads[len(value)] + value
        return made


class _Int(Attribute):
    FIELD = _INT

    def of(self, value: int) -> bytes:
        if not INT64_MIN <= value <= INT64_MAX:  # `values` makes a string of it too
            return _Text(self._number, self._key).of(str(value))
        content = wire.varint(value)
        return self._heads[len(content)] + content


class _Text(Attribute):
    FIELD = _STRING

    def of(self, value: str) -> bytes:
        content = value.encode()
        return self._heads[len(content)] + content


class _Double(Attribute):
    FIELD = _DOUBLE

    def __missing__(self, value: float) -> bytes:
        return self.of(value)  # not kept: 0.0 and -0.0 are one key

    def of(self, value: float) -> bytes:
        return self._heads[8] + _pack_double(value)


class _Boolean(Attribute):
    FIELD = _BOOLEAN

    def of(self, value: bool) -> bytes:
        return self._heads[1] + (b"\1" if value else b"\0")


_FORMS: dict[str, type[Attribute]] = {
    "string": _Text,
    "boolean": _Boolean,
    "int": _Int,
    "double": _Double,
    "string[]": Attribute,
    "map[]": Attribute,
}
_TEXT_ELEMENT, _MAP_ELEMENT = _Heads(_ELEMENT, "", _STRING), _Heads(_ELEMENT, "", _MAP)


def attributes(number: int, types: Mapping[str, str]) -> dict[str, Attribute]:
    """The attributes of these keys, as the field `number` of the message that has them.

    `types` has the type of each key, as `semconv` names it: `string`, `int`, `boolean`,
    `double`, `string[]` or `map[]`. The value of an array is its elements, encoded already.
    """
    return {key: _FORMS[kind](number, key) for key, kind in types.items()}


def before_text(number: int) -> dict[int, bytes]:
    """What stands before a string's bytes, by their length, if the field is an `AnyValue`."""
    return _Heads(number, "", _STRING)


def text_elements(values: Iterable[str]) -> bytes:
    """Strings as the elements of an array."""
    parts: list[bytes] = []
    for value in values:
        content = value.encode()
        parts += _TEXT_ELEMENT[len(content)], content
    return b"".join(parts)


def map_element(content: bytes) -> bytes:
    """A map as an element of an array; its content is attributes of field 1."""
    return _MAP_ELEMENT[len(content)] + content
