"""Reads structs and enums from BTF, the type information in an eBPF object.

Format: kernel Documentation/bpf/btf.rst. Enough of it for the structs that we share with the
kernel side: integers, arrays, structs, enums, and the types that only stand between.
"""

from __future__ import annotations

import dataclasses
import struct

from otel_oom import errors

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MAGIC = 0xEB9F

KIND_INT, KIND_PTR, KIND_ARRAY, KIND_STRUCT, KIND_UNION, KIND_ENUM = 1, 2, 3, 4, 5, 6
KIND_TYPEDEF, KIND_VOLATILE, KIND_CONST, KIND_RESTRICT = 8, 9, 10, 11
KIND_FUNC_PROTO, KIND_VAR, KIND_DATASEC = 13, 14, 15
KIND_DECL_TAG, KIND_ENUM64 = 17, 19

_TRANSPARENT = {KIND_TYPEDEF, KIND_VOLATILE, KIND_CONST, KIND_RESTRICT}
_EXTRA_BYTES = {KIND_INT: 4, KIND_ARRAY: 12, KIND_VAR: 4, KIND_DECL_TAG: 4}
_EXTRA_BYTES_EACH = {
    KIND_STRUCT: 12,
    KIND_UNION: 12,
    KIND_ENUM: 8,
    KIND_FUNC_PROTO: 8,
    KIND_DATASEC: 12,
    KIND_ENUM64: 12,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One member of a struct. `count` is 0 for a plain member, else an array's length."""

    name: str
    offset_bytes: int
    size_bytes: int
    count: int
    struct: str
    is_signed: bool
    is_char: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Struct:
    """A struct's layout."""

    name: str
    size_bytes: int
    members: tuple[Member, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    vlen: int
    size_or_type: int
    extra: bytes


class Btf:
    """The types of one object."""

    def __init__(self, raw: bytes) -> None:
        """`raw`: the content of a `.BTF` section; `BadRecord` if it is not one."""
        if len(raw) < _HEADER.size:
            raise errors.BadRecord(f"no BTF: {len(raw)} bytes have no room for its header")
        magic, _, _, header_bytes, types_at, types_len, strings_at, strings_len = (
            _HEADER.unpack_from(raw)
        )
        if magic != _MAGIC:
            raise errors.BadRecord(f"no BTF: it starts with {magic:#x}, not {_MAGIC:#x}")
        start = header_bytes + types_at
        self._types = raw[start : start + types_len]
        start = header_bytes + strings_at
        self._strings = raw[start : start + strings_len]
        self._table = self._read()

    def struct(self, name: str) -> Struct:
        """The layout of a struct by its name; `KeyError` if the object has none such."""
        for found in self._table:
            if found.kind == KIND_STRUCT and found.name == name:
                return Struct(name, found.size_or_type, self._members(found))
        raise KeyError(name)

    def enum(self, name: str) -> dict[str, int]:
        """The values of an enum by name."""
        for found in self._table:
            if found.kind == KIND_ENUM and found.name == name:
                pairs = struct.iter_unpack("<Ii", found.extra)
                return {self._string(at): value for at, value in pairs}
        raise KeyError(name)

    def _string(self, at: int) -> str:
        end = self._strings.find(b"\0", at)
        if end < 0:
            raise errors.BadRecord(f"broken BTF: no string ends after byte {at}")
        return self._strings[at:end].decode("utf-8", "backslashreplace")

    def _read(self) -> list[_Type]:
        table = [_Type("void", 0, 0, 0, b"")]
        at = 0
        while at < len(self._types):
            name_at, info, size_or_type = _TYPE.unpack(self._take(at, _TYPE.size))
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            if not KIND_INT <= kind <= KIND_ENUM64:
                raise errors.BadRecord(f"broken BTF: type {len(table)} is of unknown kind {kind}")
            extra = _EXTRA_BYTES.get(kind, 0) + _EXTRA_BYTES_EACH.get(kind, 0) * vlen
            at += _TYPE.size
            body = self._take(at, extra)
            table.append(_Type(self._string(name_at), kind, vlen, size_or_type, body))
            at += extra
        return table

    def _take(self, at: int, size: int) -> bytes:
        found = self._types[at : at + size]
        if len(found) < size:
            raise errors.BadRecord(f"broken BTF: its types are cut at byte {at}")
        return found

    def _members(self, found: _Type) -> tuple[Member, ...]:
        return tuple(
            self._member(self._string(name_at), type_id, offset_bits // 8)
            for name_at, type_id, offset_bits in struct.iter_unpack("<III", found.extra)
        )

    def _member(self, name: str, type_id: int, offset_bytes: int) -> Member:
        of, count = self._resolve(type_id), 0
        if of.kind == KIND_ARRAY:
            element, _, count = struct.unpack("<III", of.extra)
            of = self._resolve(element)
        is_int = of.kind == KIND_INT
        encoding = struct.unpack("<I", of.extra)[0] >> 24 & 0xF if is_int else 0
        return Member(
            name=name,
            offset_bytes=offset_bytes,
            size_bytes=of.size_or_type,
            count=count,
            struct=of.name if of.kind == KIND_STRUCT else "",
            is_signed=bool(encoding & 1),
            is_char=is_int and of.name == "char",
        )

    def _resolve(self, type_id: int) -> _Type:
        """The type behind typedefs and qualifiers, of which a table has no more than types."""
        for _ in self._table:
            if type_id >= len(self._table):
                break
            found = self._table[type_id]
            if found.kind not in _TRANSPARENT:
                return found
            type_id = found.size_or_type
        raise errors.BadRecord(f"broken BTF: type {type_id} leads nowhere")
