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

_MOST_KEPT_BYTES = 1024
_MOST_KEPT_INTS = 4096
_pack_double = struct.Struct("<d").pack


class Encoder:
    """Encodes attributes as the field `number` of the message that has them.

    `types` has the type of each key, as `semconv` names it: `string`, `int`, `boolean`,
    `double`, `string[]` or `map[]`. The value of an array is its elements, encoded already.
    """

    def __init__(self, number: int, types: Mapping[str, str]) -> None:
        self._number = number
        self._forms = {key: self._form(key, kind) for key, kind in types.items()}

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """All of them, in the mapping's order."""
        parts: list[bytes] = []
        forms = self._forms
        for key, value in values.items():
            contents, heads = forms[key]
            try:
                content = contents[value]
            except OverflowError:  # OTLP has no such int; `values` makes a string of it too
                content, heads = str(value).encode(), _Heads(self._number, key, _STRING)
            parts.append(heads[len(content)])
            parts.append(content)
        return b"".join(parts)

    def _form(self, key: str, kind: str) -> tuple[Any, _Heads]:
        field, contents = _FORMS[kind]
        return contents, _Heads(self._number, key, field)


def text_value(value: str) -> bytes:
    """The content of an `AnyValue` that is a string."""
    return wire.text(_STRING, value)


def text_elements(values: Iterable[str]) -> bytes:
    """Strings as the elements of an array."""
    parts: list[bytes] = []
    for value in values:
        content = value.encode()
        parts += _TEXT_ELEMENT[len(content)], content
    return b"".join(parts)


def map_element(content: bytes) -> bytes:
    """A map as an element of an array; an `Encoder` of field 1 made its content."""
    return _MAP_ELEMENT[len(content)] + content


class _Heads(dict[int, bytes]):
    """What stands before the content of an attribute, by the content's length.

    Without a key it is an element of an array.
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


class _Ints(dict[int, bytes]):
    """Most integers come again: limits, the ids of ancestors, zeros."""

    def __missing__(self, number: int) -> bytes:
        if not INT64_MIN <= number <= INT64_MAX:
            raise OverflowError
        if len(self) >= _MOST_KEPT_INTS:
            self.clear()
        made = self[number] = wire.varint(number)
        return made


class _Texts(dict[str, bytes]):
    def __missing__(self, text: str) -> bytes:
        return text.encode()


class _Doubles(dict[float, bytes]):
    def __missing__(self, number: float) -> bytes:
        return _pack_double(number)


class _Arrays(dict[bytes, bytes]):
    def __missing__(self, elements: bytes) -> bytes:
        return elements


_WIRE_TYPES = {_BOOLEAN: wire.VARINT, _INT: wire.VARINT, _DOUBLE: wire.EIGHT_BYTES}
_TEXT_ELEMENT, _MAP_ELEMENT = _Heads(_ELEMENT, "", _STRING), _Heads(_ELEMENT, "", _MAP)
_FORMS: dict[str, tuple[int, Any]] = {
    "string": (_STRING, _Texts()),
    "boolean": (_BOOLEAN, (b"\0", b"\1")),
    "int": (_INT, _Ints()),
    "double": (_DOUBLE, _Doubles()),
    "string[]": (_ARRAY, _Arrays()),
    "map[]": (_ARRAY, _Arrays()),
}
"""By type: the field of `AnyValue`, and the contents by value."""
