"""The rows in one page of a table, read without trusting the page.

The format is sqlite.org/fileformat2.html's, "B-tree Pages" and "Record Format". A page whose
numbers add up is read by them; in another one whatever looks like a row's header is taken for one:
the row's checksum judges.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from otel_oom.pipeline.durable.wal import PAGE_BYTES

_LEAF = 0x0D
_PAGE = struct.Struct(">BHHHB")  # type, first free block, cells, where they begin, fragments
_FIRST_PAGE_AT = 100  # the database's header is before it
_MOST_LOCAL = PAGE_BYTES - 35
_LEAST_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_LIKELY = re.compile(rb"(?=[\x05-\x20]\x00)")  # the length of a header, and a null for the id
_MOST_PAYLOAD = 1 << 30
_VARINT_BYTES = 9

# Types of values: 0 is null, 1 to 6 are integers, from 12 on bytes and text by turns.
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
_FLOAT, _ZERO_AND_ONE, _UNUSED, _TEXTS = 7, (8, 9), {10, 11}, 12

_MISFITS = (IndexError, ValueError, struct.error)
"""How bytes say that they are no cell."""

Chain = Callable[[int, int], Iterator[bytes]]
"""What the pages after a page may hold of so many bytes; several, if it has several images."""


class Cell(NamedTuple):
    """A row as it lies in the page; `is_placed`: whether the page itself says that it is there."""

    id: int
    values: list[Any]
    is_placed: bool


class _Place(NamedTuple):
    id: int
    payload_at: int
    payload_bytes: int
    is_placed: bool


def cells(number: int, page: bytes, columns: set[int], chain: Chain) -> Iterator[Cell]:
    """Every row of so many columns that the page may hold, in each form that it may have."""
    start = _FIRST_PAGE_AT if number == 1 else 0
    try:
        places = _told(page, start)
    except _MISFITS:
        places = list(_guessed(page))
    for place in places:
        for payload in _payloads(page, place, chain):
            values = _values(payload)
            if values is not None and len(values) in columns:
                yield Cell(place.id, values, place.is_placed)


def _told(page: bytes, start: int) -> list[_Place]:
    """The cells of a leaf of a table; ValueError if the page's numbers do not add up."""
    kind, free, count, content, fragments = _PAGE.unpack_from(page, start)
    if kind != _LEAF:
        raise ValueError(kind)
    pointers = struct.unpack_from(f">{count}H", page, start + 8) if count < PAGE_BYTES else ()
    places, taken = [], 0
    for at in pointers:
        place, size = _cell(page, at)
        places.append(place)
        taken += size
    begin = content or 65536
    if len(places) != count or taken + fragments + _free_bytes(page, free) != PAGE_BYTES - begin:
        raise ValueError("does not add up")
    return places


def _cell(page: bytes, at: int) -> tuple[_Place, int]:
    size, after = _varint(page, at)
    if size < 0:
        raise ValueError("of negative length")
    id_, payload_at = _varint(page, after)
    local = _local_bytes(size)
    whole = payload_at - at + local + (4 if local < size else 0)
    if at + whole > PAGE_BYTES:
        raise ValueError("longer than the page")
    return _Place(id_, payload_at, size, is_placed=True), max(whole, 4)


def _free_bytes(page: bytes, at: int) -> int:
    free = 0
    while at:
        following, size = struct.unpack_from(">HH", page, at)
        if following and following <= at:
            raise ValueError("free blocks in a circle")
        at, free = following, free + size
    return free


def _guessed(page: bytes) -> Iterator[_Place]:
    """Wherever something looks like the header of a record with an id."""
    for match in _LIKELY.finditer(page, 1, PAGE_BYTES - 2):
        at = match.start()
        size = _record_bytes(page, at)
        if size is not None:
            yield _Place(_id_before(page, at), at, size, is_placed=False)


def _id_before(page: bytes, at: int) -> int:
    """The varint that ends here: all its bytes but the last have the highest bit."""
    start = at - 1
    while start > 0 and at - start < _VARINT_BYTES and page[start - 1] & 0x80:
        start -= 1
    return _varint(page, start)[0]


def _record_bytes(page: bytes, at: int) -> int | None:
    try:
        types, header_bytes = _types(page, at)
    except _MISFITS:
        return None
    size = header_bytes + sum(map(_value_bytes, types))
    return size if size < _MOST_PAYLOAD else None


def _payloads(page: bytes, place: _Place, chain: Chain) -> Iterator[bytes]:
    local_bytes = _local_bytes(place.payload_bytes)
    end = place.payload_at + local_bytes
    local, rest = page[place.payload_at : end], place.payload_bytes - local_bytes
    if rest == 0:
        yield local
    elif end + 4 <= PAGE_BYTES:
        for more in chain(int.from_bytes(page[end : end + 4], "big"), rest):
            yield local + more


def _local_bytes(payload_bytes: int) -> int:
    """How much of a payload is in its page; the rest is in a chain of others."""
    if payload_bytes <= _MOST_LOCAL:
        return payload_bytes
    local = _LEAST_LOCAL + (payload_bytes - _LEAST_LOCAL) % (PAGE_BYTES - 4)
    return local if local <= _MOST_LOCAL else _LEAST_LOCAL


def _values(payload: bytes) -> list[Any] | None:
    """The values of a record; None if it is not one."""
    try:
        types, at = _types(payload, 0)
    except _MISFITS:
        return None
    values = []
    for type_ in types:
        size = _value_bytes(type_)
        values.append(_value(type_, payload[at : at + size]))
        at += size
    return values if at == len(payload) else None


def _types(data: bytes, at: int) -> tuple[list[int], int]:
    """The types of a record's values, and the length of its header."""
    length, after = _varint(data, at)
    end, types = at + length, []
    while after < end:
        type_, after = _varint(data, after)
        types.append(type_)
    if after != end or _UNUSED & set(types):
        raise ValueError("no header of a record")
    return types, length


def _value_bytes(type_: int) -> int:
    if type_ >= _TEXTS:
        return (type_ - _TEXTS) // 2
    return _INTEGER_BYTES[type_] if type_ < len(_INTEGER_BYTES) else 8 * (type_ == _FLOAT)


def _value(type_: int, data: bytes) -> Any:
    if type_ >= _TEXTS:
        return data.decode(errors="replace") if type_ % 2 else data
    if type_ in _ZERO_AND_ONE:
        return type_ - _ZERO_AND_ONE[0]
    if type_ in (0, _FLOAT):
        return None  # no column of ours has a fraction
    return int.from_bytes(data, "big", signed=True)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of SQLite's, and where it ends; IndexError if it does not."""
    number = 0
    for index in range(at, at + 8):
        number = number << 7 | data[index] & 0x7F
        if not data[index] & 0x80:
            return number, index + 1
    number = number << 8 | data[at + 8]
    return number - (1 << 64) * (number >> 63), at + 9
