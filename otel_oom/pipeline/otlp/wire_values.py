"""Python values straight to the wire form of OTLP's attributes; as `values`, which makes messages.

All that stands before an attribute's content depends on its key, its type and the content's
length alone, so it is made once for each of them and kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple

from otel_oom.pipeline.otlp import wire
from otel_oom.pipeline.otlp.values import INT64_MAX, INT64_MIN, Value

_ARRAY = 5
_MOST_KEPT_BYTES = 128


class Encoded(bytes):
    """An `AnyValue` in its wire form, which may stand wherever a value may."""

    __slots__ = ()


class Attributes:
    """Encodes attributes as field `number` of their message. Their keys are of a fixed set."""

    def __init__(self, number: int) -> None:
        self._kinds = _Kinds(number)

    def encode(self, values: Mapping[str, Value]) -> bytes:
        """All of them, in the mapping's order."""
        parts: list[bytes] = []
        kinds = self._kinds
        for key, value in values.items():
            kind = kinds[type(value)]
            try:
                content = kind.content(value)
            except OverflowError:
                kind, content = kinds[str], str(value).encode()
            parts += kind[key][len(content)], content
        return b"".join(parts)


def any_value(value: Value) -> bytes:
    """An `AnyValue`'s content; an int beyond 64 bits, which OTLP cannot hold, is a string."""
    form = _form(type(value))
    try:
        content = form.content(value)
    except OverflowError:
        return wire.text(1, str(value))
    return form.head(len(content)) + content


def element(value: Value) -> bytes:
    """A value as one of an array's."""
    return wire.message(1, any_value(value))


def array(elements: Iterable[bytes]) -> Encoded:
    """An array of what `element` made."""
    return Encoded(wire.message(_ARRAY, b"".join(elements)))


class _Form(NamedTuple):
    """How `AnyValue` holds one type: in which field (0: it is one already), made by what."""

    field: int
    wire_type: int
    content: Callable[[Any], bytes]

    def head(self, size: int) -> bytes:
        """What stands before a content of so many bytes."""
        if not self.field:
            return b""
        length = wire.varint(size) if self.wire_type == wire.LENGTH else b""
        return wire.tag(self.field, self.wire_type) + length


class _Heads(dict[int, bytes]):
    """What stands before the content of an attribute of one key and type, by its length."""

    def __init__(self, number: int, key: str, form: _Form) -> None:
        self._number = number
        self._key = wire.text(1, key)
        self._form = form

    def __missing__(self, size: int) -> bytes:
        head = self._form.head(size)
        value = wire.tag(2, wire.LENGTH) + wire.varint(len(head) + size) + head
        length = wire.varint(len(self._key) + len(value) + size)
        made = wire.tag(self._number, wire.LENGTH) + length + self._key + value
        if size <= _MOST_KEPT_BYTES:
            self[size] = made
        return made


class _Kind(dict[str, _Heads]):
    """The attributes of one type, by key."""

    def __init__(self, number: int, form: _Form) -> None:
        self._number = number
        self._form = form
        self.content = form.content

    def __missing__(self, key: str) -> _Heads:
        made = self[key] = _Heads(self._number, key, self._form)
        return made


class _Kinds(dict[type, _Kind]):
    """The attributes of one field of one message, by type."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __missing__(self, found: type) -> _Kind:
        made = self[found] = _Kind(self._number, _form(found))
        return made


def _form(found: type) -> _Form:
    exact = _FORMS.get(found)
    return exact or next(form for base, form in _FORMS.items() if issubclass(found, base))


def _int64(number: int) -> bytes:
    if INT64_MIN <= number <= INT64_MAX:
        return wire.varint(number)
    raise OverflowError


def _array(values: Sequence[Value]) -> bytes:
    return b"".join(map(element, values))


_BOOLEANS = (b"\0", b"\1")
_MAP = Attributes(1)
_FORMS: dict[type, _Form] = {
    str: _Form(1, wire.LENGTH, str.encode),
    bool: _Form(2, wire.VARINT, _BOOLEANS.__getitem__),
    int: _Form(3, wire.VARINT, _int64),
    float: _Form(4, wire.EIGHT_BYTES, struct.Struct("<d").pack),
    Encoded: _Form(0, wire.LENGTH, bytes),
    bytes: _Form(7, wire.LENGTH, bytes),
    Mapping: _Form(6, wire.LENGTH, _MAP.encode),
    Sequence: _Form(_ARRAY, wire.LENGTH, _array),
    NoneType: _Form(0, wire.LENGTH, lambda _: b""),
}
"""In this order, because a bool is an int, and a str and bytes are sequences."""
